// Package failover measures how long a buyer waits when something dies, or somebody
// leaves without a word. Each
// experiment starts a whole holdfast of its own on this machine, has buyers buy
// through the coordinator while it breaks one thing in one way, and ends with the
// audit of all shards.
//
// # What is promised
//
//   - [Kill]: the holder of a product is killed with SIGKILL. From the kill until
//     the first purchase is admitted that was asked for after it, less than a
//     second passes in 99 of 100 cases, whatever the TTL of the locks.
//   - [Drain]: the holder of many products is told to stop, under load. No
//     purchase fails, and none waits for 250 ms.
//   - [Quorum]: etcd loses its quorum for longer than a lock lives. Products that
//     are held go on selling at nine tenths of their rate or more, and two seconds
//     after etcd answers again every product sells, held or not.
//   - [Locks]: one worker holds ten thousand locks under load for minutes. None is
//     lost, and each is renewed before two thirds of its TTL have passed.
//   - [Holds]: all units of a product are held, and the holds are left to expire, with
//     nobody who sweeps them. A buyer who comes before is refused; one who comes a
//     second after the expiry has his unit in less than 100 ms, and then exactly as
//     many units can be sold as there are.
//
// In none of them is a unit oversold, or a purchase lost or stored twice, and no
// buyer goes without an answer.
//
// # How it is measured
//
// A buyer repeats a call under the same request id as long as its answer leaves
// open what happened, for half a minute at most: so what he waits is the outage,
// retries and all. Under a steady load ("open loop") a purchase is asked for when
// it is due, however many have no answer yet, and its wait counts from then, so
// that an outage is seen by all who would have come during it. What could not be
// sent in time is counted and not measured.
//
// It changes nothing of what it measures, and knows it from outside: from its
// answers, from the locks in etcd, and from the operating system. Everything runs
// on one machine, measuring included, so the figures are upper bounds of what the
// same code does on machines of its own.
package failover
