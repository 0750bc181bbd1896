package lockmgr

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const testTTL = 10 * time.Second

// None may be lost, and none renewed much more often than needed.
func TestManyLeasesAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const leases, long = 1000, 5 * time.Minute
		s := newRenewals(t)
		for id := range clientv3.LeaseID(leases) {
			s.hold(id + 1)
		}
		s.advance(long)
		if len(s.causes) > 0 {
			t.Errorf("%d leases ended", len(s.causes))
		}
		most := leases * int(long/(testTTL/5))
		if s.renewals < most/2 || s.renewals > most {
			t.Errorf("%d renewals, want at most %d", s.renewals, most)
		}
	})
}

// A rival owns the lock from asked + TTL on, however slowly etcd answered.
func TestTrustCountsFromTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewals(t)
		s.delay = 2 * time.Second
		s.hold(1)
		s.advance(testTTL)
		s.silent = true
		s.advance(testTTL + s.delay)
		s.wantEnded(t, 1, ErrExpired)
		if late := s.ended[1].Sub(s.received[1].Add(testTTL)); late >= 0 {
			t.Errorf("trust ended %v after the lease", late)
		}
	})
}

func TestUnansweredLeaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewals(t)
		s.silent = true
		granted := time.Now()
		s.hold(1)
		s.advance(testTTL)
		s.wantEnded(t, 1, ErrExpired)
		if got, want := s.ended[1].Sub(granted), testTTL*9/10; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
	})
}

// Renewing it could bring it back to life after its holder has been told that it is
// over, and would block the stream.
func TestExpiredLeaseIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewals(t)
		s.away = true
		s.hold(1)
		s.advance(testTTL * 9 / 10)
		s.wantEnded(t, 1, ErrExpired)
		s.away = false // while the renewal is still queued
		s.hold(2)      // keeps the streams busy
		s.advance(testTTL)
		if when, ok := s.received[1]; ok {
			t.Errorf("renewed %v after its end", when.Sub(s.ended[1]))
		}
		s.wantHeld(t, 2)
	})
}

// An answer that comes after the end is no reason to believe again.
func TestLateAnswerDoesNotRevive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewals(t)
		s.delay = testTTL
		s.hold(1)
		s.advance(3 * testTTL)
		s.wantEnded(t, 1, ErrExpired)
	})
}

// Nor is it if the clock did not run yet, as in a process that was paused.
func TestLateAnswerEndsTheLease(t *testing.T) {
	r, l := newIdleRenewer(time.Now().Add(-testTTL/2), 1)
	_, _, cause := r.settle(l.lane, l.lane.generation, l.id, testTTL, time.Now().Add(testTTL/2))
	if !errors.Is(cause, ErrExpired) {
		t.Errorf("lease ended with %v", cause)
	}
}

// An answer on a stream that was given up belongs to a request that was sent before
// the one in flight, and must not be counted from that one.
func TestAnswerOfAnOldStreamIsIgnored(t *testing.T) {
	r, l := newIdleRenewer(time.Now().Add(-testTTL/2), 1)
	before, old := l.trust.until, l.lane.generation
	l.lane.cut(time.Now())
	r.sweep(time.Now())
	if _, current, _ := r.settle(l.lane, old, l.id, testTTL, time.Now()); current || !l.trust.until.Equal(before) {
		t.Errorf("trust went from %v to %v", before, l.trust.until)
	}
}

// newIdleRenewer returns a renewer that does not run, with a lease that is in flight.
func newIdleRenewer(granted time.Time, id clientv3.LeaseID) (*renewer, *lease) {
	r := newRenewer(nil, nil, nil, hclog.NewNullLogger())
	l := newLease(id, newTrust(granted, testTTL))
	r.add(l)
	r.sweep(time.Now())
	return r, l
}

func TestForgottenLeaseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewals(t)
		s.hold(1)
		s.hold(2)
		s.forgotten = 1
		s.advance(testTTL / 2)
		s.wantEnded(t, 1, ErrLost)
		s.wantHeld(t, 2)
	})
}

// One stream that takes renewals and answers nothing must cost nobody the lock.
func TestSilentStreamIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewals(t)
		s.muteStreams = laneCount
		for id := range clientv3.LeaseID(100) {
			s.hold(id + 1)
		}
		s.advance(10 * testTTL)
		if len(s.causes) > 0 {
			t.Errorf("%d leases ended", len(s.causes))
		}
	})
}

func TestStreamsReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewals(t)
		s.hold(1)
		for range 10 {
			s.away = true
			s.advance(testTTL / 2)
			s.away = false
			s.advance(testTTL)
		}
		s.wantHeld(t, 1)
	})
}

// renewals is a renewer and the server it talks to, both in a bubble of their own
// time. The test holds mu except while it advances.
type renewals struct {
	renewer *renewer

	mu     sync.Mutex
	ended  map[clientv3.LeaseID]time.Time
	causes map[clientv3.LeaseID]error

	away        bool             // streams fail
	silent      bool             // renewals are dropped
	muteStreams int              // how many streams from now on drop their renewals
	delay       time.Duration    // between a renewal and its answer
	forgotten   clientv3.LeaseID // is not known

	renewals int
	received map[clientv3.LeaseID]time.Time // last
}

func newRenewals(t *testing.T) *renewals {
	s := &renewals{
		ended:    make(map[clientv3.LeaseID]time.Time),
		causes:   make(map[clientv3.LeaseID]error),
		received: make(map[clientv3.LeaseID]time.Time),
	}
	s.renewer = newRenewer(leaseServer{s: s}, func(*lease) {}, s.end, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.renewer.run(ctx) }()
	t.Cleanup(func() { s.mu.Unlock(); cancel(); <-stopped })
	s.mu.Lock()
	return s
}

// advance lets time pass, until nothing happens any more at the moment it returns.
func (s *renewals) advance(d time.Duration) {
	s.mu.Unlock()
	defer s.mu.Lock()
	time.Sleep(d)
	synctest.Wait()
}

// hold has a lease renewed that was granted now.
func (s *renewals) hold(id clientv3.LeaseID) {
	s.renewer.add(newLease(id, newTrust(time.Now(), testTTL)))
}

func (s *renewals) end(l *lease, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[l.id], s.causes[l.id] = time.Now(), cause
}

func (s *renewals) wantEnded(t *testing.T, id clientv3.LeaseID, cause error) {
	t.Helper()
	if got := s.causes[id]; !errors.Is(got, cause) {
		t.Fatalf("lease %d ended with %v, want %v", id, got, cause)
	}
}

func (s *renewals) wantHeld(t *testing.T, id clientv3.LeaseID) {
	t.Helper()
	if cause := s.causes[id]; cause != nil {
		t.Fatalf("lease %d ended with %v", id, cause)
	}
}

// leaseServer is the server's end of the renewals.
type leaseServer struct {
	pb.LeaseClient
	s *renewals
}

func (ls leaseServer) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	ls.s.mu.Lock()
	defer ls.s.mu.Unlock()
	if ls.s.away {
		return nil, io.ErrUnexpectedEOF
	}
	mute := ls.s.muteStreams > 0
	if mute {
		ls.s.muteStreams--
	}
	return &leaseStream{ctx: ctx, s: ls.s, mute: mute, answers: make(chan *pb.LeaseKeepAliveResponse, 10_000)}, nil
}

type leaseStream struct {
	grpc.ClientStream
	ctx     context.Context
	s       *renewals
	mute    bool
	answers chan *pb.LeaseKeepAliveResponse
}

func (st *leaseStream) Context() context.Context { return st.ctx }

func (st *leaseStream) Send(req *pb.LeaseKeepAliveRequest) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	id := clientv3.LeaseID(req.GetID())
	if st.ctx.Err() != nil {
		return st.ctx.Err()
	}
	if st.mute || st.s.silent || st.s.away {
		return nil
	}
	st.s.renewals++
	st.s.received[id] = time.Now()
	resp := &pb.LeaseKeepAliveResponse{ID: int64(id), TTL: int64(testTTL / time.Second)}
	if id == st.s.forgotten {
		resp.TTL = 0
	}
	time.AfterFunc(st.s.delay, func() { st.answers <- resp })
	return nil
}

func (st *leaseStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	select {
	case resp := <-st.answers:
		return resp, nil
	case <-st.ctx.Done():
		return nil, st.ctx.Err()
	}
}
