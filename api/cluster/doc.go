// Package cluster is what coordinators, workers and operators of one cluster
// tell each other through etcd: the cluster's id, its topology, which
// workers there are, and in which regions products are to be sold.
//
// # Keys
//
//	<prefix>cluster/id              the cluster's id, set once
//	<prefix>cluster/topology        the newest topology, as JSON
//	<prefix>cluster/workers/<name>  a worker, as JSON, under a lease of its own
//	<prefix>homes/<product id>      the region in which a product is to be sold
//	<prefix>locks/                  the locks of the workers; see lockmgr
//
// # What it promises
//
// [Directory.Watch] calls back with a whole [View] at the start and after each
// change. While etcd is away the last view stays: workers that are gone are
// found out by calling them. A worker that died without a word stays in the
// view until its lease expires, so a view is a hint where to call, never a
// proof of life.
//
// [Directory.WatchHomes] tells the homes of products, and then each change: there may be a
// hundred thousand. A home is a preference of whoever sold the product last, which stays
// when nobody is left there to follow it; a product without one is sold anywhere.
//
// etcd that was restored from a backup, or wiped, is noticed within seconds: the
// view is read again at times, and the watch begun anew when revisions went back.
package cluster
