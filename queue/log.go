package queue

import (
	"context"
	"log/slog"
	"time"
)

// Log makes an Observe that writes one line to l for each Event, with the kind,
// ID and number of the attempt, how long it took, its error, and when the next is
// due. nil is [slog.Default].
//
//   - debug: done at the first attempt
//   - info: done at a later one, or to be tried again
//   - warn: the lease was lost, so that another worker may do it too; the store
//     failed, and is asked again
//   - error: it went to the dead letters
//
// A line holds nothing of the payload. What a handler's error says is in it.
func Log(l *slog.Logger) func(Event) {
	if l == nil {
		l = slog.Default()
	}
	return func(e Event) { l.LogAttrs(context.Background(), e.level(), "queue: "+string(e.Type), e.attrs()...) }
}

func (e *Event) level() slog.Level {
	switch {
	case e.Type == Died:
		return slog.LevelError
	case e.Type == LeaseLost || e.Type == StoreFailed:
		return slog.LevelWarn
	case e.Type == Finished && e.Attempt == 1:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// attrs leaves out what the Event doesn't know: the store fails without a job, too.
func (e *Event) attrs() []slog.Attr {
	var out []slog.Attr
	if e.ID != "" {
		out = append(out, slog.String("kind", e.Kind), slog.String("id", e.ID), slog.Int("attempt", e.Attempt))
	}
	if e.Type != StoreFailed {
		out = append(out, slog.Duration("duration", e.Took))
	}
	if e.Err != nil {
		out = append(out, slog.Any("err", e.Err))
	}
	if e.Wait > 0 {
		out = append(out, slog.Time("next", time.Now().Add(e.Wait)))
	}
	return out
}
