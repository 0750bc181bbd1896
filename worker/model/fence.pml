/*
 * The fencing protocol, small enough to try every order of events.
 *
 * One product, two shards, up to three tenures. A tenure stands for a worker
 * that got a token; a worker that ends one tenure and begins another is two of
 * them, for it carries nothing over but requests to send again. The lock is not
 * here, because it excludes nobody. A tenure that takes no step any more was
 * killed, and one that takes its next step late was paused.
 *
 * Each MUTATION_ breaks the protocol in one place, and must be found out.
 */

#ifndef TENURES
#define TENURES 2 /* at most 3 */
#endif
#ifndef RETURNS
#define RETURNS 1 /* a sold unit may be given back */
#endif
#ifndef NEW_SHARD
#define NEW_SHARD 1 /* some workers have an old list of shards */
#endif
#ifndef RESTORE
#define RESTORE 1 /* etcd may be restored, and give a token again, or a lower one */
#endif

#define STORAGE  2
#define BACK     3                    /* request 3 gives back what request 0 bought; 0, 1, 2 buy a unit */
#define SHARD(r) ((r) == 1)           /* requests 0, 2 and 3 belong to shard 0 */
#define HAS(t, s) ((s) < topology[t]) /* topology 1 is shard 0, topology 2 is both */

/* ---- What the shards store. A fence names a tenure, whose numbers never change. ---- */
byte topology[4], token[4]; /* of tenures 1, 2, 3; nobody is 0 */
byte fence[2];
short purchased[2]; /* the running totals */
byte row[4];        /* by request id */
#define ROWS_0 (row[0] + row[2] - row[BACK])
#define ROWS_1 (row[1])
#define SOLD_OUT (ROWS_0 + ROWS_1 == STORAGE)

/* ---- What the customers know. ---- */
bit acknowledged[4];
byte refused[4]; /* by this tenure */
bit none[4];     /* seen from outside: nothing was available at some moment since this tenure was asked */
#define OPEN(r) (!acknowledged[r] && !refused[r])
#define ACKNOWLEDGE(r) assert(row[r]); acknowledged[r] = 1

/* ---- Batches, of one request each, between a tenure and a shard. ---- */
#define IDLE 0
mtype = { SENT, UNKNOWN /* sent, and given up by its tenure */, INSERTED, REPLAYED, FENCED, CURRENT, OLD };
typedef Batches { mtype is[4] };
Batches batch[4];
bit ended[4]; /* the tenure admits no more */

#define ABOVE(t, f) (topology[t] > topology[f] || topology[t] == topology[f] && token[t] > token[f])
#if defined(MUTATION_EQUAL_TOKEN)
#define ACCEPTS(s, t) (!ABOVE(fence[s], t))
#elif defined(MUTATION_NO_TOPOLOGY)
#define ACCEPTS(s, t) (fence[s] == t || token[t] > token[fence[s]])
#else
#define ACCEPTS(s, t) (fence[s] == t || ABOVE(t, fence[s]))
#endif
#ifdef MUTATION_NO_REQUEST_ID
#define CONFLICT(r) 0
#else
#define CONFLICT(r) row[r]
#endif

/* A batch takes effect at any time after it was sent, or never: that is the
 * whole network. It is one step, because it locks the fence. */
#define TAKE(r) atomic { batch[t].is[r] == SENT || batch[t].is[r] == UNKNOWN -> take(t, r) }
inline take(t, r) {
	d_step {
		if
		:: fence[SHARD(r)] != t -> outcome = FENCED
		:: fence[SHARD(r)] == t && CONFLICT(r) -> outcome = REPLAYED
		:: fence[SHARD(r)] == t && !CONFLICT(r) -> outcome = INSERTED;
			row[r]++;
			assert(row[r] <= 1);
			/* What was refused is not bought by an attempt that came before. */
			assert(!refused[r] || ABOVE(t, refused[r]))
		fi;
		if
		:: outcome == INSERTED -> purchased[SHARD(r)] = purchased[SHARD(r)] + (r == BACK -> -1 : 1)
#ifdef MUTATION_TOTAL_AS_ASKED
		:: outcome == REPLAYED -> purchased[SHARD(r)] = purchased[SHARD(r)] + (r == BACK -> -1 : 1)
#endif
		:: else
		fi;
		printf("shard %d:  batch of tenure %d with request %d arrives: %e\n", SHARD(r), t, r, outcome);
		assert(ROWS_0 + ROWS_1 <= STORAGE);
		assert(purchased[0] == ROWS_0 && purchased[1] == ROWS_1);
		if :: SOLD_OUT -> none[1] = 1; none[2] = 1; none[3] = 1 :: else fi;
		if
		:: batch[t].is[r] == UNKNOWN -> batch[t].is[r] = IDLE /* nobody waits for the answer */
		:: batch[t].is[r] == SENT && outcome == FENCED -> batch[t].is[r] = IDLE; ended[t] = 1
		:: batch[t].is[r] == SENT && outcome != FENCED -> batch[t].is[r] = outcome
		fi;
		outcome = 0
	}
}

proctype network(byte t) {
	mtype outcome;
end:	do :: TAKE(0) :: TAKE(1) :: TAKE(2) :: TAKE(3) od
}

/* ---- A tenure begins: it raises the fence on every shard it knows. ---- */
#ifdef MUTATION_STALE_TOTAL
#define TOTAL(s) total[s] /* of a snapshot */
#define READ(s) atomic { HAS(me, s) && !seen[s] -> seen[s] = 1; total[s] = purchased[s]; \
	printf("tenure %d: reads %d purchased on shard %d\n", me, total[s], s) }
#define RAISE(s) atomic { seen[s] && !heard[s] -> raise(s) }
#else
#define TOTAL(s) purchased[s]
#define RAISE(s) atomic { HAS(me, s) && !heard[s] -> raise(s) }
#endif
inline raise(s) {
	if
	:: ACCEPTS(s, me) ->
#ifndef MUTATION_NO_TOPOLOGY /* found by this alone; what follows from it says more */
		assert(!ABOVE(fence[s], me));
#endif
		fence[s] = me;
		if
		:: heard[s] = 1; available = available - TOTAL(s);
			printf("tenure %d: raises the fence of shard %d, hears %d purchased\n", me, s, TOTAL(s))
		:: printf("tenure %d: raises the fence of shard %d, gets no answer and repeats it\n", me, s)
		fi
	:: !ACCEPTS(s, me) -> printf("tenure %d: is refused by shard %d\n", me, s); goto over
	fi
}
#define DONE(s) (heard[s] || !HAS(me, s))

/* ---- It sells. Units are counted when they are sent, and returned ones when that is certain. ---- */
#define PRICE(r) (r == BACK -> 0 : 1)
#define GAIN(r)  (r == BACK -> 1 : 0)
#define MINE(r) (HAS(me, SHARD(r)) && OPEN(r) && batch[me].is[r] == IDLE && asked != r + 1)
#define FITS(r) (r == BACK -> RETURNS && acknowledged[0] : available > 0)
#define SEND(r) atomic { !ended[me] && MINE(r) && FITS(r) -> send(r) }
inline send(r) {
	batch[me].is[r] = SENT;
	available = available - PRICE(r);
	printf("tenure %d: sends request %d, keeps %d available\n", me, r, available)
}

#define IN_FLIGHT(r) (batch[me].is[r] != IDLE && batch[me].is[r] != UNKNOWN)
#define HEAR(r) atomic { batch[me].is[r] == INSERTED || batch[me].is[r] == REPLAYED -> hear(r) }
inline hear(r) {
	printf("tenure %d: hears of request %d: %e\n", me, r, batch[me].is[r]);
	ACKNOWLEDGE(r);
	available = available + (batch[me].is[r] == INSERTED -> GAIN(r) : PRICE(r));
	batch[me].is[r] = IDLE
}

/* The database refused it, and said so: it is certain that nothing is stored. */
#define FAIL(r) atomic { batch[me].is[r] == SENT -> batch[me].is[r] = IDLE; available = available + PRICE(r); \
	printf("tenure %d: hears that request %d failed\n", me, r) }

/* The request or the answer was lost. It may be stored, now or later: it stays
 * counted, and whoever wants to know needs a new token first. */
#define LOSE(r) atomic { IN_FLIGHT(r) -> lose(r) }
inline lose(r) {
	batch[me].is[r] = (batch[me].is[r] == SENT -> UNKNOWN : IDLE);
	printf("tenure %d: gets no answer to request %d\n", me, r);
#ifdef MUTATION_SAME_TOKEN_RESOLVE
	if
	:: row[r] -> ACKNOWLEDGE(r)
	:: else -> available = available + PRICE(r); printf("tenure %d: does not find request %d\n", me, r)
	fi
#else
	ended[me] = 1
#endif
}

/* ---- It refuses, when nothing in flight can change that, and the fence is still its own. ---- */
#define NO_SALE (!IN_FLIGHT(0) && !IN_FLIGHT(1) && !IN_FLIGHT(2))
#if defined(MUTATION_REFUSE_IN_FLIGHT)
#define UNFIT (available <= 0)
#elif defined(MUTATION_RETURN_NOT_AWAITED)
#define UNFIT (available <= 0 && NO_SALE)
#else
#define UNFIT (available <= 0 && NO_SALE && !IN_FLIGHT(BACK))
#endif
#define ASK(r) atomic { !ended[me] && !asked && MINE(r) && UNFIT -> \
	asked = r + 1; none[me] = SOLD_OUT; printf("tenure %d: has nothing for request %d\n", me, r) }
#ifdef MUTATION_REFUSE_UNVERIFIED
#define VERIFY(s) atomic { asked && !read -> read = CURRENT }
#else
#define VERIFY(s) atomic { asked && !read && HAS(me, s) -> read = (fence[s] == me -> CURRENT : OLD); \
	printf("tenure %d: reads the fence of shard %d: %e\n", me, s, read) }
#endif
#ifdef MUTATION_NO_FIRST_OUTCOME
#define FOUND(r) 0
#else
#define FOUND(r) row[r]
#endif
#define ANSWER atomic { asked && read -> answer(asked - 1) }
inline answer(r) {
	if
	:: FOUND(r) -> ACKNOWLEDGE(r); printf("tenure %d: finds request %d\n", me, r)
	:: !FOUND(r) && read == OLD -> ended[me] = 1
	:: !FOUND(r) && read == CURRENT -> printf("tenure %d: refuses request %d\n", me, r);
		assert(none[me]);
		assert(!row[r]);
		if :: OPEN(r) -> refused[r] = me :: else fi /* else a later attempt was quicker */
	fi;
	asked = 0; read = 0; none[me] = 0
}

#define IDLING (!asked && NO_SALE && !IN_FLIGHT(BACK) && (ended[me] || !MINE(0) && !MINE(1) && !MINE(2)))

proctype tenure(byte me) {
	short available = STORAGE;
	bit heard[2];
	byte asked; /* the request, plus 1, that is about to be refused */
	mtype read; /* what the fence said to that */
#ifdef MUTATION_STALE_TOTAL
	bit seen[2];
	byte total[2];
#endif
	do
	:: RAISE(0) :: RAISE(1)
#ifdef MUTATION_STALE_TOTAL
	:: READ(0) :: READ(1)
#endif
#ifdef MUTATION_SELL_EARLY
	:: atomic { heard[0] && !DONE(1) -> available = available - purchased[1]; break }
	:: atomic { heard[1] && !DONE(0) -> available = available - purchased[0]; break }
#endif
	:: DONE(0) && DONE(1) -> break
	od;
	do
	:: SEND(0) :: SEND(1) :: SEND(2) :: SEND(BACK)
	:: HEAR(0) :: HEAR(1) :: HEAR(2) :: HEAR(BACK)
	:: FAIL(0) :: FAIL(1) :: FAIL(2) :: FAIL(BACK)
	:: LOSE(0) :: LOSE(1) :: LOSE(2) :: LOSE(BACK)
	:: ASK(0) :: ASK(1) :: ASK(2) :: VERIFY(0) :: VERIFY(1) :: ANSWER
	:: IDLING -> break
	od;
over:	atomic { available = 0; heard[0] = 0; heard[1] = 0 } /* forget: fewer states */
}

init {
	byte t, revision;
	bit restored;
	atomic {
		do
		:: t < TENURES -> t++;
			if
			:: revision++
			:: RESTORE && !restored && t > 1 -> restored = 1
			:: RESTORE && !restored && t > 2 -> restored = 1; revision--
			fi;
			token[t] = revision;
			if :: topology[t] = 2 :: NEW_SHARD -> topology[t] = 1 fi;
			printf("tenure %d: topology %d, token %d\n", t, topology[t], token[t]);
			run network(t);
			run tenure(t)
		:: else -> break
		od
	}
}
