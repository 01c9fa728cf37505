# SPDX-License-Identifier: Apache-2.0
"""Facts about the machine, the libraries and the settings of this process; one file per group."""
