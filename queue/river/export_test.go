package river

import "context"

// Tend does what a Run does once a minute.
func Tend(ctx context.Context, q *Queue) error { return q.tend(ctx) }
