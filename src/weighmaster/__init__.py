"""Weighmaster."""
