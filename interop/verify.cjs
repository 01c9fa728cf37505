// SPDX-License-Identifier: Apache-2.0
// Verify bundles with @sigstore/verify. Standard input: {case: question}, a question being {"bundle": base64} and either
// {"key": PEM, "hint": text} or {"trustedRoot": object, "identity": subject alternative name}.
// Standard output: {case: null where it was accepted, else what was said}.
const { createPublicKey } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { bundleFromJSON } = require("@sigstore/bundle");
const { TrustedRoot } = require("@sigstore/protobuf-specs");
const { toSignedEntity, toTrustMaterial, Verifier } = require("@sigstore/verify");

// A bare key has no log entry, no timestamp and no certificate: their number is 0, and nothing else is switched off.
function byKey({ key, hint }) {
  const root = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
  const trust = toTrustMaterial(root, {
    [hint]: {
      hint,
      rawBytes: createPublicKey(key).export({ type: "spki", format: "der" }),
      keyDetails: "PKIX_ECDSA_P256_SHA_256",
      validFor: { start: new Date(0) },
    },
  });
  return [new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 })];
}

// A certificate needs a timestamp. The name that is expected is a regular expression to this library: all of it, literally.
function byCertificate({ trustedRoot, identity }) {
  const trust = toTrustMaterial(TrustedRoot.fromJSON(trustedRoot));
  const name = `^${identity.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`;
  const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 1 });
  return [verifier, { subjectAlternativeName: name }];
}

function verdict(question) {
  const [verifier, policy] = question.trustedRoot ? byCertificate(question) : byKey(question);
  const text = Buffer.from(question.bundle, "base64").toString("utf8");
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(text))), policy);
    return null;
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
}

const out = {};
for (const [name, question] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) out[name] = verdict(question);
process.stdout.write(JSON.stringify(out));
