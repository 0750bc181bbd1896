// Package coordinator is the front door: it validates, routes by product, and
// answers. It holds no database credentials and no state; any number of
// coordinators serve side by side.
//
// # The way of a request
//
// The service checks the request against the rules of the contract, fills in
// request_id and region, and asks the router for the product's workers. The
// router ranks all workers for the product by rendezvous hashing of their stable
// names, so that every coordinator tries the same one first, and a worker that
// comes or goes moves only its own products. HTTP/JSON is the same service
// behind grpc-gateway.
//
// Where workers have regions, a product may have a home: the region that most of its
// purchases come from, as its last holder found. The workers there are asked first, then the
// others. A coordinator's own region decides nothing: it is told to the workers, who count.
// All coordinators follow the same homes, or two regions would take a product from each
// other call by call.
//
// What is done to a purchase any worker can do, so its id is what workers are ranked for.
// Only a confirmation after the hold has expired goes on to the workers of the product,
// under the same request_id: its units have to be admitted anew. Before a hold or its
// extension is sent, its end is made a time, so that all attempts have the same.
//
// Most calls are purchases. One that the first worker answers makes no context and no
// timer, in a stream no goroutine either, and meets the validator only when it is not
// plainly valid.
//
// # Promises
//
//   - A request that breaks a rule reaches no worker; the error names the field.
//   - A call to a worker that died, drains or does not answer in time is
//     repeated on the next one, until the caller's deadline. That is safe
//     because every purchase has a request_id before it is sent: the next worker
//     finds the first outcome if there was one.
//   - An answer that a worker gave is passed on as it is.
//
// # Failures
//
//   - No worker is known, or none answers: UNAVAILABLE, reason NO_WORKER, a
//     moment before the caller's deadline.
//   - More purchases are under way at a worker than may be: RESOURCE_EXHAUSTED, reason
//     OVERLOADED, at once; the detail RetryInfo says when to come back.
//   - An HTTP request that is none of the contract's, such as one with a misspelt
//     field: 400, reason MALFORMED_REQUEST; 413 when it is too large, 415 when it
//     is not sent as application/json.
//   - etcd is away: the last known workers and topology are used. A region that is
//     not known may then be a new one: UNAVAILABLE, reason TOPOLOGY_UNAVAILABLE.
//
// Retries are the router's own and not gRPC's: gRPC does not repeat a call once
// a server has sent headers, and its name resolver for etcd drops what a
// rendezvous picker needs, fails every call on an empty list and stops when its
// watch closes.
package coordinator
