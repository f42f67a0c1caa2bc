package postgres

import "github.com/smilefactory/integrations/queue"

// StoreOf is what is below a Queue.
func StoreOf(q *Queue) queue.Store { return q.store }
