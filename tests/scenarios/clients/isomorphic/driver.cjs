// isomorphic-git on a command line; see Driven in client.py.
"use strict";

const fs = require("fs");
const git = require("isomorphic-git");
const http = require("isomorphic-git/http/node");

const onMessage = (text) => process.stderr.write(`remote: ${text}`);

async function clone(url, dir, depth) {
  await git.clone({ fs, http, dir, url, depth, singleBranch: false, onMessage });
}

async function fetch(dir, depth) {
  await git.fetch({ fs, http, dir, remote: "origin", depth, singleBranch: false, tags: true, onMessage });
}

async function push(dir, refspecs, force) {
  const url = await git.getConfig({ fs, dir, path: "remote.origin.url" });
  for (const refspec of refspecs) {
    const [ref, remoteRef] = refspec.split(":");
    if (ref === "") {
      await git.push({ fs, http, dir, url, ref: "HEAD", remoteRef, delete: true, onMessage });
    } else {
      await git.push({ fs, http, dir, url, ref, remoteRef: remoteRef || ref, force, onMessage });
    }
  }
}

async function listRefs(url) {
  for (const found of await git.listServerRefs({ http, url, peelTags: true, protocolVersion: 1 })) {
    console.log(`${found.oid}\t${found.ref}`);
  }
}

function option(words, name) {
  const at = words.indexOf(name);
  return at < 0 ? undefined : words.splice(at, 2)[1];
}

function flag(words, name) {
  const at = words.indexOf(name);
  return at >= 0 && words.splice(at, 1).length === 1;
}

async function main([verb, ...words]) {
  const depth = option(words, "--depth");
  const force = flag(words, "--force");
  if (verb === "clone") return clone(words[0], words[1], depth && Number(depth));
  if (verb === "fetch") return fetch(words[0], depth && Number(depth));
  if (verb === "push") return push(words[0], words.slice(1), force);
  if (verb === "ls-remote") return listRefs(words[0]);
  throw new Error(`there is no ${verb}`);
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.code || ""} ${error.message}\n${JSON.stringify(error.data || {})}\n`);
  process.exitCode = 1;
});
