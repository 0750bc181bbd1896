// Package worker sells. A worker is stateless: everything it knows can be read
// back from the shards, and any worker may be killed at any moment.
//
// # Words
//
// A tenure is the time one worker sells one product under one token. Its
// available is what it may still admit: the storage, less what every shard had
// sold when the tenure began, less what it has sent since. A lane carries the
// purchases of all tenures to one shard: while a batch commits, the next one gathers, and
// is sent besides when it is full, or when the shard is far away. So do the fences of
// tenures that begin.
//
// # The life of a tenure
//
//	            a purchase comes, and there is no tenure
//	                          │
//	                    ┌─────▼─────┐  holder dead: take its lock away
//	                    │  locking  │  holder alive: it sees us and hands over
//	                    └─────┬─────┘
//	                          │ token = revision of the confirming write
//	                    ┌─────▼─────┐
//	                    │  fencing  │  raise the fence on EVERY shard, in parallel
//	                    └─────┬─────┘
//	                          │ all have answered:
//	                          │ available = storage − Σ purchased
//	                    ┌─────▼─────┐
//	      ┌─────────────┤  selling  ├──────────────┐
//	      │ idle, or    └─────┬─────┘              │ a shard has a newer tenure,
//	      │ a waiter, or      │                    │ or a commit was not answered
//	      │ draining    (lease lapsed: sells on,   │
//	┌─────▼─────┐        each commit proves the    │
//	│ settling  │        fence)                    │
//	└─────┬─────┘                                  │
//	      │ nothing in flight                      │
//	      └──────────────►  ended  ◄───────────────┘
//	                   release the lock
//
// A term is the time a worker sells under one topology. When a higher number
// comes, it opens the new list of shards, ends all tenures, and goes on; a worker
// that has no DSN for a new shard stops, since it could not fence it.
//
// # The way of a purchase
//
// Service checks the region. The tenure of the product admits: the units fit,
// so they are counted and the purchase goes to the lane of its shard; or they
// would fit if something in flight failed, so it waits for that; or they do not
// fit, so a read of every shard tells what was given back meanwhile, proves that the
// tenure is current and that the request is not a repetition, and the purchase is refused
// or admitted after all. The lane commits
// and tells the tenure, which answers, or gives the units back. All that happens in the
// goroutine that reads the link, and then in the lane's: a purchase has none of its own
// unless it has to wait for a tenure, and a tenure has none while it sells.
//
// Units are counted when a purchase is sent, never when it commits.
//
// # Where a product is sold
//
// The tenure of a worker with a region counts where its purchases come from (demand.go): a
// link tells once in which region its coordinator is. When most come from another region for
// long enough, and there is a worker, the holder names it as the product's home in etcd, and
// sells on. Coordinators ask the workers there first from then on; the one that is asked
// waits for the lock, and gets it as from any holder. So a home is a hint like the lock:
// nobody who follows an old one, or none, can sell what is not there.
//
// # What follows a purchase
//
// Extensions, confirmations, cancellations and returns take no units, so any worker does
// them (changes.go), in batches of their shard. Orders are stored, held line by line in the
// tenures of their products, and placed (orders.go); a purchase with a price is held first
// and stored as an order then; their payment is asked for by the
// goroutine of the call (pay.go), and what follows a commit is done by the outbox
// (outbox.go), one worker for each shard (duty.go), as are sweeps.
//
// # Failures
//
//   - A batch is refused by the database: it is split until the one purchase
//     that is to blame fails alone. If a lock was not had in time, because
//     somebody keeps a fence locked, the product that is to blame fails alone.
//   - A commit is not answered: its units stay counted, and the tenures of the
//     batch end. The purchases are sent again by the next tenure, under a new
//     token and with the same request ids: the raised fence settles whether the
//     lost commit happened, and if it did they meet their first outcome.
//     Looking for it under the same token would be wrong: the lost transaction
//     may still commit after the look.
//   - A fence has a newer tenure: that product's tenure ends, the rest of the
//     batch goes on.
//   - The holder of a lock is dead (its port refuses, another process answers
//     there, or two probes go unanswered): its key is deleted and the lock
//     taken at once. That is safe because a holder that was alive after all is
//     fenced. Of a process that is certainly gone, all keys are deleted.
//   - The work on a product is stuck, while the process lives and renews: its lock
//     ends after a TTL, alone, and goes to whoever wants it.
//   - etcd is away: tenures go on selling; purchases that need a new one fail
//     with LOCK_UNAVAILABLE once their deadline has passed.
//   - A shard is away: after two pings without an answer contact is lost, and
//     whatever needs the shard fails with SHARD_UNAVAILABLE at once until it is
//     found again: purchases of its customers, products without a tenure, and refusals,
//     since units may have been given back there.
//     Others go on. A purchase that may be stored there stays counted, and its
//     tenure ends when contact is back; who wants its units is told so at once.
//   - Nobody waits for a tenure that begins: it is abandoned after a second, so
//     that it does not take the product from where its buyers are now.
//
// The worker does not route (coordinator does), and holds nothing of a customer
// while a payment provider is asked.
package worker
