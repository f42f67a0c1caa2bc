package fault

import "context"

// Exchange is what an attempt exchanged with its provider, for observers: traces,
// metrics, an audit log. The zero value of a field means that it isn't known. No
// field may hold a secret, a message body or personal data.
type Exchange struct {
	// Target is the host that was asked, with its port.
	Target string
	// Status is the HTTP status, or the protocol's own reply code.
	Status int
	// RequestID is the vendor's id of the request.
	RequestID string
	// Sent and Received count the bytes of the bodies.
	Sent, Received int64
	// Units are figures of the domain's own by name, such as tokens.
	Units map[string]float64
}

// Attempt is what a context of an attempt offers to the adapter under it, by way
// of [Note] and [Alive].
type Attempt interface {
	// Note calls f with the attempt's Exchange, alone.
	Note(f func(*Exchange))
	// Alive notes a sign of life.
	Alive()
}

// AttemptKey is the key under which a context holds its [Attempt]. Package
// resilience sets it; a test of an adapter may.
type AttemptKey struct{}

func attemptOf(ctx context.Context) Attempt {
	a, _ := ctx.Value(AttemptKey{}).(Attempt)
	return a
}

// Note adds to what observers are told of the attempt that ctx belongs to. It
// holds a lock while f runs, which must only write to the Exchange; so hooks that
// outlive the answer may call it, and what they note after the attempt's end is
// lost. Without an attempt f is not called.
func Note(ctx context.Context, f func(*Exchange)) {
	if a := attemptOf(ctx); a != nil {
		a.Note(f)
	}
}

// Alive says that the provider is still at work, though there is no answer yet,
// such as when a stream brings a comment that keeps it open. It restarts the
// attempt's limit on silence.
func Alive(ctx context.Context) {
	if a := attemptOf(ctx); a != nil {
		a.Alive()
	}
}
