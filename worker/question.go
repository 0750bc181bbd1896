package worker

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// question is one question to a shard, and who wants the answer.
type question[Q, A any] struct {
	asked  Q
	answer func(A, error)
	span   trace.Span // of who asks; nil when it is not recorded
}

type (
	check   = question[ledger.Check, ledger.Checked]
	raising = question[ledger.Fence, ledger.Raised]
	putting = question[ledger.Put, bool]        // true when it is stored
	reading = question[string, *ledger.Product] // of the product with this id; nil when there is none

	changing = question[[]ledger.Change, []ledger.Changed] // all of them or none
)

// answerAll asks the shard all questions at once.
func answerAll[Q, A any](ctx context.Context, l *lane, questions []question[Q, A], do func(context.Context, []Q) ([]A, error)) {
	answers, err := ask(ctx, l, questions, do)
	tell(questions, answers, err)
}

func ask[Q, A any](
	ctx context.Context, l *lane, questions []question[Q, A], do func(context.Context, []Q) ([]A, error),
) (answers []A, err error) {
	asked := make([]Q, len(questions))
	var spans []trace.Span
	for i, q := range questions {
		asked[i] = q.asked
		if q.span != nil {
			spans = append(spans, q.span)
		}
	}
	ctx, span := traces.Together(ctx, "ask shard", spans, traces.Shard.String(l.shard.Name()), traces.Size.Int(len(asked)))
	defer func() { traces.End(span, err) }()
	err = l.contact.during(context.WithoutCancel(ctx), batchTimeout, func(ctx context.Context) (err error) {
		answers, err = do(ctx, asked)
		return err
	})
	if err == nil {
		return answers, nil
	}
	if !isContactLost(err) {
		traces.Log(ctx, l.log).Error("shard not asked", "questions", len(questions), "error", err)
	}
	return nil, &ShardError{Shard: l.shard.Name(), cause: err}
}

// tell tells everybody his answer, or the error that is everybody's.
func tell[Q, A any](questions []question[Q, A], answers []A, err error) {
	for i, q := range questions {
		if err != nil {
			var none A
			q.answer(none, err)
			continue
		}
		q.answer(answers[i], nil)
	}
}

// await puts a question into a queue and waits for the answer. It returns ErrDraining when
// the lane has stopped, and the question is not put.
func await[Q, A any](ctx context.Context, q *queue[question[Q, A]], asked Q) (answer A, err error) {
	answered := make(chan struct{})
	var given A
	var failure error
	q.put(question[Q, A]{
		asked: asked, answer: func(a A, e error) { given, failure = a, e; close(answered) }, span: traces.Recorded(ctx),
	})
	select {
	case <-answered:
		return given, failure
	case <-ctx.Done():
		return answer, context.Cause(ctx)
	case <-q.over:
	}
	select {
	case <-answered: // by the last batch
		return given, failure
	default:
		return answer, ErrDraining
	}
}
