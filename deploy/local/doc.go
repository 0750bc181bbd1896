// Package local owns the servers that holdfast needs around it when nobody has
// installed any: an embedded etcd, real Postgres servers, and the child
// processes (coordinators and workers) that run next to them. The local stack
// and the tests are built from it.
//
// What it promises:
//
//   - every server listens on 127.0.0.1 and nowhere else;
//   - every server syncs to disk as in production, so that what it confirmed
//     survives its death here for the same reason as there;
//   - a second start on the same folder finds the data of the first;
//   - Stop and Kill return when the server is gone, with all its goroutines;
//   - on Linux no child outlives its parent, even when the parent is killed
//     with SIGKILL. Other systems have no such signal: there a parent that is
//     killed leaves its children behind.
//
// It does not create schemas, does not know what holdfast stores, and is no
// way to run holdfast in production.
package local
