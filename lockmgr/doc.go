// Package lockmgr hands out named, fenced locks kept in etcd. It owns the keys
// below one prefix and the leases these keys hang on. It promises order (first
// come, first served), a token that rises with every owner of a name, and a
// context that ends before anybody else could own the name. It does not
// promise exclusion, because no lock with a lease can: a holder may be paused
// between looking at its lock and acting. Whoever stores something must compare
// tokens; the lock only decides who should work, so that the comparison rarely
// refuses. The package knows nothing of the work that is guarded.
//
// # Words
//
//   - name: what is locked, any non-empty string
//   - owner: who this manager is, an opaque string that rivals can read
//   - claim: one acquisition, from its beginning until its lock has ended; it has one
//     key in its life, and no other claim ever has that
//   - lease: an etcd lease, shared by up to 1024 claims of one manager
//   - place: the create revision of a claim's key; the queue of a name is
//     its keys in that order, and the first one owns the name
//   - token: the revision of the write that confirmed the ownership
//   - trust: the time a lease is believed in without asking, from the moment a
//     renewal was asked for until asked + TTL − margin
//
// # Keys
//
//	<prefix>/<escaped name>/<lease id, 16 hex digits>-<number of the claim>  →  owner
//
// The name is escaped as one path segment, so the keys of "a" are never in the
// range of "a/b". A key carries its lease and its claim in its path: whatever a claim
// writes or deletes is its own, however late it arrives.
//
// # Protocol
//
//	 choose a lease with room and time, or else                   │
//	    grant one, asked_at := now ◄──────────────────────────────┤
//	                  │                                           │
//	first Txn: is there a key under the name?                     │
//	 │ no: put mine                │ yes: put mine                │
//	 │                             ▼                              │
//	 │                      ┌─────────────┐  my key is gone, or   │
//	 │                      │   waiting   │  trust ran out        │
//	 │                      └─────────────┘ ──────────────────────┘
//	 │      no key is older: │           │
//	 │       confirming Txn, │           │ cancelled, draining
//	 │        put mine again │           │
//	 ▼                       ▼           │
//	┌─────────────────────────┐          │
//	│         owning          │          │
//	└─────────────────────────┘          │
//	 │ Release,   │ trust    │ the key   │
//	 │ Drain      │ ran out  │ or lease  │
//	 │            │          │ is gone   │
//	 │ErrReleased │ErrExpired│ErrLost    │
//	 ▼            ▼          ▼           ▼
//	┌──────────────────────────────────────────┐
//	│ ended: the context is over, the key is   │
//	│ deleted in the background while it lives │
//	└──────────────────────────────────────────┘
//
// The confirming Txn succeeds only if the key still has the create revision of its
// place and no key under the name has a smaller one. A waiter waits for the deletion
// of the key right before its own, and of its own, and reads the queue again about
// every second.
//
// Ownership is always the result of a write, never of a read: a read can be
// stale, and a waiter whose own key has gone could skip into a place it has
// lost. TryAcquire is the same first Txn, with a read of the holder instead of
// the place in the queue.
//
// A Txn without an answer may have put its key, or may yet do so. The key is deleted,
// and should it come later, the watch of all keys sees one under an own lease that no
// claim has, and it is deleted again. The lease is not revoked: others hang on it.
//
// Claims share leases because a lease is what is dear in etcd. A lease of its own for
// each of 10,000 locks kept etcd and the worker busy with renewals for 1.4 of 2 cores;
// and when their process died, etcd ended them one by one, with a wait for its disk
// each. What is lost is little: all leases of a process are renewed by the same
// process over the same connection, and mostly end together anyway.
//
// Evict deletes the key of a holder if it is still the write whose revision was read
// as its token. The lease stays, so the renewals of an evicted holder that is alive
// go on being granted, for its other locks too. It learns its eviction from the watch of all keys, which every
// manager keeps for contention: the deletion of the key of a claim that waits or owns
// ends it with [ErrLost]. Each time the watch begins again all keys are read before, and a
// claim whose key was put before that read and is not in it has lost it. Released keys
// do not matter to either: a lock has ended before its key is deleted.
//
// The token is the revision of that write and not the key's create revision, so
// it is larger than the token of everybody who owned the name before: waiters
// confirm after the last owner's key has gone.
//
// # Trust
//
// etcd keeps a lease for its TTL from the moment a renewal arrives, which is
// later than the moment it was asked for. So trust is counted from before the
// request was sent, on the monotonic clock, with the TTL that the server granted,
// less a tenth of it for clocks that run at different speeds and for the time a
// holder needs to notice. Renewals are asked for after a fifth to a third of the
// TTL, at random, so that ten thousand leases do not come due together. A lease
// is never renewed after its trust has ended, even if etcd would: the holder has
// been told. Config.Alive is asked of each lock before its lease is renewed, and a
// lock of which it has said no for nine tenths of a TTL ends, alone, with
// [ErrExpired].
//
// The context of a lock looks at the clock itself when it is asked, so a process
// that was stopped for a minute cannot see an old answer before its timers have
// run. Contexts derived from it end a moment later.
//
// # Failures
//
//   - Request of the Txn lost, or its reply: both look the same. The key is deleted
//     if there is one, again if it comes after that, and the error is returned.
//   - Reply of the grant lost: a lease without a key remains for one TTL.
//   - Reply of a confirming write lost: the waiter still has its place, and
//     confirms again. The later revision is its token.
//   - Caller gives up: its place is deleted in the background; its successors
//     do not wait for it.
//   - Waiter's watch compacted, closed, or without leader: it reads again. The
//     place is a revision in etcd and nothing a watch could lose.
//   - Delete event lost: the poll, about a second apart, finds the same.
//   - Waiter's lease expired: it starts again at the end of the queue, and says so
//     in the log.
//   - Waiter died: its key blocks its successors until its lease ends, like a
//     holder's. It can be evicted as soon as it is at the head of the queue.
//   - etcd away: held locks end with [ErrExpired] when trust runs out, before any
//     rival can own them. Calls return when their context ends, or when etcd has
//     not answered for one TTL.
//   - Release fails: the lock has ended all the same. The key is deleted in the
//     background for as long as its lease lives.
//   - Process paused beyond the TTL: a rival may own the name while the paused
//     holder acts on its last look at its context. Only the token stops it.
//   - Evicted holder alive: its watch tells it at once, and it ends with [ErrLost].
//   - Evicted holder alive, and its watch interrupted: it learns it from the read of all
//     keys when the watch is back. If all of its connection was away, trust may
//     run out first. Should the watch be silent and nothing else, it is a minute until
//     the next read.
//   - Evicted before the first Txn was answered: the deletion is seen, or the read
//     that missed it is remembered until the answer says when the key was put.
//   - Request of the eviction lost, or its reply: evicting again does what is left
//     to do, and never touches a newer lock.
//   - Lease revoked by somebody else: its key goes with it, which the watch sees, and
//     the next renewal.
//   - Lease gone when a claim puts its key: the Txn fails for want of it, all claims
//     of the lease end, and this one starts again with another.
//   - One renewal blocked: etcd answers the renewals of a stream in order and
//     holds back the answer for an expired lease until it is revoked. Leases are
//     spread over several streams, and a stream that owes an answer for a quarter
//     of the TTL is replaced.
//   - Watch of all keys interrupted: they are read before it goes on.
//   - Connection silently dead: gRPC notices only with keepalive pings, of which
//     it sends one every 10 s at most. Set DialKeepAliveTime on the client, and
//     have a TTL of 15 s or more if renewals are to reach another member in time;
//     with a shorter one, the lock is lost to such a connection.
//
// # Cost
//
// Acquiring is one write, and for one lock in 1024 a grant; taking over from another
// owner is one more read and write; releasing is one write for up to a hundred locks
// that are released at the same time; evicting is one write. A refused TryAcquire is
// one Txn that changes nothing. A held lock costs about a kilobyte of memory, no
// goroutine, and a thousandth of a renewal every fifth to third of a TTL. All
// locks of a manager share one watch, which hears of every key that is put or deleted:
// about a microsecond each.
//
// The end of a lease is the most expensive of these: etcd waits for its disk each
// time, and does nothing else meanwhile. It is why claims share leases, why Release
// deletes keys, and why Evict leaves the lease to expire.
//
// The reasons for not using the concurrency package of etcd's client are the
// items above. Its weaknesses were found by Jepsen (https://jepsen.io/analyses/etcd-3.4.3)
// and by reading it.
package lockmgr
