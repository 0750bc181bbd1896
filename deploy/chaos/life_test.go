package chaos

import (
	"cmp"
	"testing"
	"time"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// story is a history of product "p", with 10 units, and the rows that it left.
type story struct {
	h    *History
	rows Rows
	last *Op
}

func newStory() *story {
	h := NewHistory()
	h.addProduct("p", 10)
	return &story{h: h}
}

func seconds(s int) time.Duration { return time.Duration(s) * time.Second }

func (s *story) op(o Op) *story {
	o.Product = "p"
	s.h.ops = append(s.h.ops, o)
	s.last = &s.h.ops[len(s.h.ops)-1]
	return s
}

// row is the row of a purchase that a story has begun.
func (s *story) row(request string) *Row {
	for i := range s.rows.Purchases {
		if s.rows.Purchases[i].RequestID == request {
			return &s.rows.Purchases[i]
		}
	}
	panic("no row of " + request)
}

// bought and the next ones are what happened and was answered, between two moments in seconds.
func (s *story) bought(request string, amount int64, call, end int) *story {
	s.rows.Purchases = append(s.rows.Purchases, row(request, amount))
	return s.op(op(request, amount, Admitted, call, end))
}

func (s *story) held(request string, amount int64, call, end, expires int) *story {
	r := row(request, amount)
	r.State, r.Expires = ledger.Held, seconds(expires)
	s.rows.Purchases = append(s.rows.Purchases, r)
	o := op(request, amount, Admitted, call, end)
	o.Kind, o.Told = Hold, Told{ledger.Held, 0, seconds(expires)}
	return s.op(o)
}

func (s *story) refused(request string, amount int64, call, end int) *story {
	return s.op(op(request, amount, Refused, call, end))
}

// changed is a change of a purchase; asked is its amount.
func (s *story) changed(kind Kind, of string, asked int64, call, end int) *story {
	s.changes(kind, of, asked, call)
	r := s.row(of)
	return s.op(Op{
		Kind: kind, RequestID: string(kind) + "-" + of, Amount: asked, PurchaseID: r.PurchaseID, Answer: Admitted,
		Call: seconds(call), Return: seconds(end), Told: Told{r.State, r.Amount - r.has(), r.Expires},
	})
}

// changes leaves the rows of a change.
func (s *story) changes(kind Kind, of string, asked int64, at int) *story {
	r := s.row(of)
	c := ChangeRow{
		PurchaseID: r.PurchaseID, RequestID: string(kind) + "-" + of, Action: actions[kind], Amount: asked,
		Created: seconds(at), Expires: r.Expires,
	}
	return s.does(r, c)
}

func (s *story) does(r *Row, c ChangeRow) *story {
	to := lawful[c.Action][r.State]
	c.Units = r.apply(c)
	r.State = cmp.Or(to, r.State)
	if c.Action == ledger.Return && r.has() > 0 {
		r.State = ledger.Confirmed
	}
	c.State = r.State
	s.rows.Changes = append(s.rows.Changes, c)
	return s
}

func (s *story) expired(of string, at int) *story {
	r := s.row(of)
	return s.does(r, ChangeRow{PurchaseID: r.PurchaseID, Action: ledger.Expire, Created: seconds(at), Expires: r.Expires})
}

// not is a change that was refused, for a reason.
func (s *story) not(kind Kind, of string, asked int64, reason string, call, end int) *story {
	return s.op(Op{
		Kind: kind, RequestID: "not-" + string(kind) + "-" + of, Amount: asked, PurchaseID: "eu-" + of,
		Answer: Refused, Reason: reason, Call: seconds(call), Return: seconds(end),
	})
}

func (s *story) delivered(request string, amount int64, call, end int) *story {
	s.rows.Deliveries = append(s.rows.Deliveries, DeliveryRow{"d-" + request, "p", request, amount})
	return s.op(Op{
		Kind: Deliver, RequestID: request, PurchaseID: "d-" + request, Amount: amount, Answer: Admitted, Call: seconds(call), Return: seconds(end),
	})
}

func (s *story) unanswered() *story {
	s.last.Answer, s.last.Told = Unanswered, Told{}
	if s.last.Kind.creates() {
		s.last.PurchaseID = ""
	}
	return s
}

// What the contract allows must not be taken for a violation, however odd it looks.
func TestCheckerAcceptsLivesOfPurchases(t *testing.T) {
	cases := map[string]*story{
		"cancelled and sold again": newStory().held("a", 10, 0, 1, 60).refused("b", 1, 2, 3).
			changed(Cancel, "a", 0, 4, 5).bought("c", 10, 6, 7),
		"refused while another one cancels": newStory().held("a", 10, 0, 1, 60).changed(Cancel, "a", 0, 2, 5).
			refused("b", 1, 3, 4),
		"sold while another one cancels": newStory().held("a", 10, 0, 1, 60).changed(Cancel, "a", 0, 2, 5).
			bought("b", 10, 3, 4),
		"confirmed in part, and the rest sold": newStory().held("a", 10, 0, 1, 60).changed(Confirm, "a", 4, 2, 3).
			bought("b", 6, 4, 5).refused("c", 1, 6, 7),
		"returned in part and then whole": newStory().bought("a", 10, 0, 1).changed(Return, "a", 3, 2, 3).
			bought("b", 3, 4, 5).refused("c", 1, 6, 7),
		"expired and sold on demand": newStory().held("a", 10, 0, 1, 3).refused("b", 1, 1, 2).
			expired("a", 5).bought("c", 10, 4, 6),
		"refused at the moment of the expiry": newStory().held("a", 10, 0, 1, 3).refused("b", 1, 2, 4).
			expired("a", 3),
		"confirmed after its time, though nobody had expired it": newStory().held("a", 10, 0, 1, 3).
			changed(Confirm, "a", 0, 5, 6).refused("b", 1, 7, 8),
		"cancelled after its time, though nobody had expired it": newStory().held("a", 10, 0, 1, 3).
			changed(Cancel, "a", 0, 5, 6).bought("b", 10, 7, 8),
		"admitted anew after the expiry": newStory().held("a", 10, 0, 1, 3).expired("a", 4).
			changed(Confirm, "a", 7, 5, 6).bought("b", 3, 7, 8).refused("c", 1, 9, 10),
		"too late, since others were quicker": newStory().held("a", 10, 0, 1, 3).expired("a", 4).
			bought("b", 1, 4, 5).not(Confirm, "a", 0, holdfastv1.ReasonHoldExpired, 6, 7),
		"extended in time": extended(newStory().held("a", 10, 0, 1, 3), 2, 20).refused("b", 1, 6, 7).
			changed(Cancel, "a", 0, 8, 9),
		"not to be extended any more": newStory().held("a", 10, 0, 1, 3).expired("a", 4).
			not(Extend, "a", 0, holdfastv1.ReasonHoldExpired, 5, 6),
		"not to be extended to what was over when it was tried": newStory().held("a", 10, 0, 1, 3).expired("a", 4).
			op(Op{
				Kind: Extend, RequestID: "x", PurchaseID: "eu-a", Answer: Refused, Reason: holdfastv1.ReasonInvalidField,
				Until: seconds(5), Call: seconds(2), Return: seconds(6),
			}),
		"confirmed and cancelled at once": newStory().held("a", 10, 0, 1, 60).changed(Confirm, "a", 0, 2, 5).
			not(Cancel, "a", 0, holdfastv1.ReasonPurchaseConfirmed, 2, 5),
		"delivered and sold": newStory().bought("a", 10, 0, 1).delivered("d", 5, 2, 3).bought("b", 5, 4, 5).
			refused("c", 1, 6, 7),
		"found missing": newStory().bought("a", 7, 0, 1).delivered("d", -3, 2, 3).refused("b", 1, 4, 5),
		"a return that was not answered, and happened at last": newStory().bought("a", 10, 0, 1).
			changed(Return, "a", 0, 2, 3).unanswered().refused("b", 1, 4, 5).bought("c", 10, 6, 7),
		"a hold that was not answered, and expired": newStory().held("a", 10, 0, 1, 3).unanswered().
			expired("a", 4).bought("b", 10, 5, 6),
	}
	for name, s := range cases {
		t.Run(name, func(t *testing.T) {
			if err := Check(s.h, &s.rows).Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// extended moves the end of hold "a".
func extended(s *story, at, expires int) *story {
	r := s.row("a")
	s.does(r, ChangeRow{
		PurchaseID: r.PurchaseID, RequestID: "e", Action: ledger.Extend, Created: seconds(at), Expires: seconds(expires),
	})
	return s.op(Op{
		Kind: Extend, RequestID: "e", PurchaseID: r.PurchaseID, Answer: Admitted, Until: seconds(expires),
		Call: seconds(at), Return: seconds(at + 1), Told: Told{ledger.Held, 0, seconds(expires)},
	})
}

// What the contract does not allow must be found, each for its own reason.
func TestCheckerRejectsLivesOfPurchases(t *testing.T) {
	type found struct {
		oversold                             int64
		lost, doubled, falseRefusals, broken int
		orderless                            bool
	}
	edited := func(s *story, edit func(*story)) *story { edit(s); return s }
	cases := map[string]struct {
		story *story
		want  found
	}{
		"oversold by a return that was counted twice": {
			newStory().bought("a", 10, 0, 1).changed(Return, "a", 4, 2, 3).bought("b", 4, 4, 5).bought("c", 4, 6, 7),
			found{oversold: 4, orderless: true},
		},
		"oversold for a while by a return that was counted before it came": {
			newStory().bought("a", 10, 0, 1).bought("b", 4, 2, 3).changed(Return, "a", 4, 4, 5), found{orderless: true},
		},
		"refused though a cancellation was acknowledged before": {
			newStory().held("a", 10, 0, 1, 60).changed(Cancel, "a", 0, 2, 3).refused("b", 1, 4, 5),
			found{falseRefusals: 1, orderless: true},
		},
		"refused though the rest of a confirmation was back": {
			newStory().held("a", 10, 0, 1, 60).changed(Confirm, "a", 9, 2, 3).refused("b", 1, 4, 5),
			found{falseRefusals: 1, orderless: true},
		},
		"refused though a delivery had come": {
			newStory().bought("a", 10, 0, 1).delivered("d", 1, 2, 3).refused("b", 1, 4, 5),
			found{falseRefusals: 1, orderless: true},
		},
		"refused by a hold whose time was up": {
			newStory().held("a", 10, 0, 1, 3).refused("b", 1, 5, 6).expired("a", 8),
			found{falseRefusals: 1, orderless: true},
		},
		"refused by a hold whose time was up, and confirmed late": {
			newStory().held("a", 10, 0, 1, 3).refused("b", 1, 5, 6).changed(Confirm, "a", 0, 7, 8),
			found{falseRefusals: 1, orderless: true},
		},
		"late confirmation refused though the units were there": {
			newStory().held("a", 10, 0, 1, 3).expired("a", 4).not(Confirm, "a", 0, holdfastv1.ReasonHoldExpired, 5, 6),
			found{falseRefusals: 1, orderless: true},
		},
		"late confirmation admitted though others had bought the units": {
			newStory().held("a", 10, 0, 1, 3).expired("a", 4).bought("b", 1, 4, 5).changed(Confirm, "a", 0, 6, 7),
			found{oversold: 1, orderless: true},
		},
		"sold before the hold was over": {
			newStory().held("a", 10, 0, 1, 6).bought("b", 10, 2, 3).expired("a", 7), found{orderless: true},
		},
		"expired before its time": {
			newStory().held("a", 10, 0, 1, 60).expired("a", 3), found{broken: 1},
		},
		"extended after its time": {extended(newStory().held("a", 10, 0, 1, 3), 5, 20), found{broken: 1}},
		"confirmed twice with different outcomes": {
			edited(newStory().held("a", 10, 0, 1, 60).changed(Confirm, "a", 0, 2, 3), func(s *story) {
				s.last.Again = holdfastv1.ReasonHoldExpired
			}), found{doubled: 1},
		},
		"told of a confirmation of all, of which a part is stored": {
			edited(newStory().held("a", 10, 0, 1, 60).changed(Confirm, "a", 4, 2, 3), func(s *story) {
				s.last.Told.Released = 0
			}), found{broken: 1},
		},
		"confirmed and cancelled": {
			newStory().held("a", 10, 0, 1, 60).changed(Confirm, "a", 0, 2, 3).
				op(Op{
					Kind: Cancel, RequestID: "x", PurchaseID: "eu-a", Answer: Admitted, Call: seconds(2), Return: seconds(3),
				}), found{lost: 1, orderless: true},
		},
		"a return that was lost": {
			edited(newStory().bought("a", 10, 0, 1).changed(Return, "a", 0, 2, 3), func(s *story) {
				s.rows.Changes = nil
				s.rows.Purchases[0] = row("a", 10)
			}), found{lost: 1},
		},
		"a return that is there twice": {
			edited(newStory().bought("a", 10, 0, 1).changed(Return, "a", 2, 2, 3), func(s *story) {
				s.rows.Changes = append(s.rows.Changes, s.rows.Changes[0])
			}), found{doubled: 1},
		},
		"a return of which the purchase knows nothing": {
			edited(newStory().bought("a", 10, 0, 1).changed(Return, "a", 2, 2, 3), func(s *story) {
				s.rows.Purchases[0] = row("a", 10)
			}), found{broken: 1},
		},
		"a return that nobody asked for": {
			newStory().bought("a", 10, 0, 1).changes(Return, "a", 2, 2), found{doubled: 1},
		},
		"a cancellation that was refused and is stored": {
			edited(newStory().held("a", 10, 0, 1, 60).changed(Cancel, "a", 0, 2, 3), func(s *story) {
				s.last.Answer, s.last.Reason = Refused, holdfastv1.ReasonPurchaseHeld
			}), found{falseRefusals: 1},
		},
		"a hold that was refused for its end when it was repeated, and is stored": {
			edited(newStory().held("a", 10, 0, 5, 3).expired("a", 4).bought("b", 10, 6, 7), func(s *story) {
				o := &s.h.ops[0]
				o.Answer, o.Reason, o.Until, o.PurchaseID, o.Told = Refused, holdfastv1.ReasonInvalidField, seconds(3), "", Told{}
			}), found{falseRefusals: 1},
		},
		"a purchase that nobody finds": {
			newStory().bought("a", 1, 0, 1).not(Return, "a", 0, holdfastv1.ReasonPurchaseNotFound, 2, 3),
			found{falseRefusals: 1},
		},
		"refused for a state that it never was in": {
			newStory().bought("a", 1, 0, 1).not(Return, "a", 0, holdfastv1.ReasonPurchaseReturned, 2, 3),
			found{orderless: true},
		},
		"returned from a hold": {newStory().held("a", 10, 0, 1, 60).changed(Return, "a", 0, 2, 3), found{broken: 1, orderless: true}},
		"a delivery that was lost": {
			edited(newStory().delivered("d", 5, 0, 1), func(s *story) { s.rows.Deliveries = nil }), found{lost: 1},
		},
		"a delivery that is there twice": {
			edited(newStory().delivered("d", 5, 0, 1), func(s *story) {
				s.rows.Deliveries = append(s.rows.Deliveries, s.rows.Deliveries[0])
			}), found{doubled: 1},
		},
		"found missing what was sold": {
			newStory().bought("a", 10, 0, 1).delivered("d", -1, 2, 3), found{oversold: 1, orderless: true},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			v := Check(c.story.h, &c.story.rows)
			got := found{v.Oversold, v.Lost, v.Doubled, v.FalseRefusals, v.Broken, len(v.NotLinearizable) > 0}
			if got != c.want {
				t.Errorf("got %+v, want %+v: %q", got, c.want, v.Evidence)
			}
			if v.Err() == nil {
				t.Error("no error")
			}
		})
	}
}

// What keeps the units of others away is found when its time is up.
func TestCheckerFindsOverdueHolds(t *testing.T) {
	s := newStory().held("a", 1, 0, 1, 3).held("b", 1, 0, 1, 60).bought("c", 1, 0, 1)
	if n := s.rows.overdue(seconds(10)); n != 1 {
		t.Errorf("%d holds are overdue, want 1", n)
	}
}
