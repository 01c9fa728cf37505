// SPDX-License-Identifier: Apache-2.0
// Verify bundles with @sigstore/verify. Standard input: {"key": PEM, "hint": text, "bundles": {case: base64}}.
// Standard output: {case: null where it was accepted, else what was said}.
const { createPublicKey } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { bundleFromJSON } = require("@sigstore/bundle");
const { toSignedEntity, toTrustMaterial, Verifier } = require("@sigstore/verify");

const { key, hint, bundles } = JSON.parse(readFileSync(0, "utf8"));
const root = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
const trust = toTrustMaterial(root, {
  [hint]: {
    hint,
    rawBytes: createPublicKey(key).export({ type: "spki", format: "der" }),
    keyDetails: "PKIX_ECDSA_P256_SHA_256",
    validFor: { start: new Date(0) },
  },
});
// A bare key has no log entry, no timestamp and no certificate: their number is 0, and nothing else is switched off.
const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });

function verdict(text) {
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(text))));
    return null;
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
}

const out = {};
for (const [name, data] of Object.entries(bundles)) out[name] = verdict(Buffer.from(data, "base64").toString("utf8"));
process.stdout.write(JSON.stringify(out));
