package chaos

import (
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// attempted and answered are input and output of the model.
type (
	attempted struct{ amount int64 }
	answered  struct{ admitted bool }
)

// productModel is a product sold by one honest clerk: its state is the units
// left. It admits exactly what fits.
func productModel(stock int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return stock },
		Step: func(state, input, output any) (bool, any) {
			left, amount := state.(int64), input.(attempted).amount
			fits := amount <= left
			if fits != output.(answered).admitted {
				return false, state
			}
			if fits {
				left -= amount
			}
			return true, left
		},
	}
}

// linearizable asks whether some order of the operations, each at one moment
// between its call and its return, is one that the clerk could have served.
//
// A purchase that was never answered but has a row is an admission that may
// have come at any time after its call; one without a row never happened.
func linearizable(stock int64, ops []Op, stored map[string]bool, timeout time.Duration) porcupine.CheckResult {
	var history []porcupine.Operation
	for _, o := range ops {
		p := porcupine.Operation{
			Input: attempted{o.Amount}, Output: answered{o.Answer == Admitted},
			Call: int64(o.Call), Return: int64(o.Return),
		}
		if o.Answer == Unanswered {
			if !stored[o.RequestID] {
				continue
			}
			p.Output, p.Return = answered{true}, math.MaxInt64
		}
		history = append(history, p)
	}
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(min(max(a.Call-b.Call, -1), 1)) })
	return porcupine.CheckOperationsTimeout(productModel(stock), history, timeout)
}
