package resiliencehttp

import (
	"context"
	"errors"
	"net"
	"net/textproto"
	"net/url"
	"regexp"
	"strings"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// callError is the error of a call without a response: the fault, with what
// callers of net/http ask for.
type callError struct {
	f       *fault.Error
	request context.Context //nolint:containedctx // the request's, to say why it ended
}

func (e *callError) Error() string { return e.f.Error() }

// Unwrap gives the fault, and why the caller's context has ended, if it has.
func (e *callError) Unwrap() []error {
	if e.request.Err() == nil {
		return []error{e.f}
	}
	return []error{e.f, e.request.Err(), context.Cause(e.request)}
}

// Timeout reports whether the last attempt, or the caller's patience, ran out of
// time, as [url.Error] asks.
func (e *callError) Timeout() bool {
	last := lastAnswer(e.f)
	if errors.Is(last, resilience.ErrTimeout) || errors.Is(e.request.Err(), context.DeadlineExceeded) {
		return true
	}
	n, ok := errors.AsType[net.Error](last.Err)
	return ok && n.Timeout()
}

// transportError is an error of net/http, or of the caller's body, without what may
// be secret: net/http quotes what it couldn't read of a response, and other
// transports quote URLs and bodies.
type transportError struct{ cause error }

func (e transportError) Unwrap() error { return e.cause }

var (
	quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"?`)
	query  = regexp.MustCompile(`(\w+://)(?:[^\s/@]*@)?([^\s?#]*)\S*`)
)

// maxText bounds what is shown of an error, in bytes.
const maxText = 200

func (e transportError) Error() string {
	if u, ok := errors.AsType[*url.Error](e.cause); ok {
		return transportError{u.Err}.Error()
	}
	if _, ok := errors.AsType[textproto.ProtocolError](e.cause); ok {
		return "malformed header" // its text quotes the header without quotation marks
	}
	text, _, _ := strings.Cut(e.cause.Error(), "\n")
	text = query.ReplaceAllString(quoted.ReplaceAllString(text, "…"), "$1$2")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
