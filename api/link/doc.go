// Package link carries purchases from a coordinator to a worker: a [Link] is the
// coordinator's end, a [Server] the worker's.
//
// A call of its own for every purchase costs both sides more than all else that they do
// for it. So purchases share one stream for each worker, and those that come while a
// message is being sent share the next one: a message carries one purchase when
// there is little to do and hundreds when there is much, and nobody waits for it to
// fill. Answers come back the same way, each as soon as it is known, so that a
// product that has to be taken over delays no other.
//
// What a link promises is what a call would: a purchase that is not answered before its
// time is up, its context ends or the stream breaks may have been stored or not, and the
// worker learns that nobody waits for it any more. One clock serves all purchases of a
// stream: a context and a timer for each would cost more than sending it. A stream that broke is opened anew
// by the next purchase. Neither end keeps more purchases than its limit: one that is
// too many is answered at once with RESOURCE_EXHAUSTED, and was not tried.
package link
