package resilience

import (
	"context"
	"log/slog"

	"github.com/smilefactory/integrations/fault"
)

// Log is an Observer that writes one line for each call, with the call's context:
// a success at debug, or at info where it took a retry or a backup; a call that the
// request itself or the caller has ended (Invalid, NotFound, Conflict, Rejected,
// Canceled) at warn, any other failure at error. A breaker that opens is a line at
// warn, one that closes at info, and each step of a call one at debug. A nil logger
// is [slog.Default].
func Log(l *slog.Logger) Observer {
	if l == nil {
		l = slog.Default()
	}
	return logger{l}
}

type logger struct{ *slog.Logger }

// Observe writes the line.
func (l logger) Observe(ctx context.Context, e Event) {
	level := levelOf(e)
	if !l.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 8), slog.String("op", e.Op))
	add := func(is bool, a slog.Attr) {
		if is {
			attrs = append(attrs, a)
		}
	}
	add(e.Provider != "", slog.String("provider", e.Provider))
	add(e.Class != "", slog.String("class", e.Class))
	add(e.Key != "", slog.String("key", e.Key))
	if e.Type == CallEnded {
		attrs = append(attrs, slog.Int("attempts", e.Attempt))
	} else {
		add(e.Attempt > 0, slog.Int("attempt", e.Attempt))
	}
	add(e.Duration > 0, slog.Duration("duration", e.Duration))
	add(e.Delay > 0, slog.Duration("delay", e.Delay))
	if e.Type == StateChanged {
		attrs = append(attrs, slog.String("from", string(e.From)), slog.String("to", string(e.To)))
	}
	switch e.Type { //nolint:exhaustive // the next step has no reason that the attempt before it hasn't told
	case AttemptEnded, CallEnded, Refused:
		add(e.Err != nil, slog.Any("err", e.Err))
	}
	l.LogAttrs(ctx, level, e.Type.String(), attrs...)
}

func levelOf(e Event) slog.Level {
	switch e.Type { //nolint:exhaustive // the others are steps of a call
	case StateChanged:
		if e.To == Open {
			return slog.LevelWarn
		}
		return slog.LevelInfo
	case Panicked:
		return slog.LevelError
	case CallEnded:
		return callLevel(e)
	}
	return slog.LevelDebug
}

func callLevel(e Event) slog.Level {
	if e.Err == nil {
		if e.Attempt > 1 {
			return slog.LevelInfo
		}
		return slog.LevelDebug
	}
	switch fault.KindOf(e.Err) { //nolint:exhaustive // the others are the provider's
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.Rejected, fault.Canceled:
		return slog.LevelWarn
	}
	return slog.LevelError
}
