package stripe

import "slices"

// page of a list (docs.stripe.com/api/pagination).
type page[T any] struct {
	Object  string `json:"object"`
	URL     string `json:"url"`
	HasMore bool   `json:"has_more"`
	Data    []T    `json:"data"`
}

const (
	defaultLimit = 10  // docs.stripe.com/api/pagination
	maxLimit     = 100 // docs.stripe.com/api/pagination
)

// paging are the parameters of every list.
var paging = spec{"limit": integer, "starting_after": id, "ending_before": unsimulated}

// listed is the page of those that keep wants, newest first.
func listed[T any](c *call, url string, s *shelf[T], idOf func(T) string, keep func(T) bool) (any, *problem) {
	limit := int64(defaultLimit)
	if c.p.has("limit") {
		if limit = c.p.number("limit"); limit < 1 || limit > maxLimit {
			return nil, invalid("parameter_invalid_integer", "limit", "This value must be between 1 and 100.")
		}
	}
	all := slices.DeleteFunc(s.newest(), func(v T) bool { return !keep(v) })
	if after := c.p.text("starting_after"); after != "" {
		if _, ok := s.byID[after]; !ok {
			return nil, noSuch("object", after, "starting_after")
		}
		at := slices.IndexFunc(all, func(v T) bool { return idOf(v) == after })
		all = all[at+1:]
	}
	more := int64(len(all)) > limit
	return page[T]{Object: "list", URL: url, HasMore: more, Data: all[:min(int64(len(all)), limit)]}, nil
}

// created is the filter of that name: a time, or gt, gte, lt, lte.
func created(at string, value any) *problem {
	if _, ok := value.(string); ok {
		return integer(at, value)
	}
	return object(spec{"gt": integer, "gte": integer, "lt": integer, "lte": integer})(at, value)
}

func (c *call) within(t int64) bool {
	if exact := c.p.text("created"); exact != "" {
		return c.p.number("created") == t
	}
	bounds := c.p.object("created")
	return (!bounds.has("gt") || t > bounds.number("gt")) && (!bounds.has("gte") || t >= bounds.number("gte")) &&
		(!bounds.has("lt") || t < bounds.number("lt")) && (!bounds.has("lte") || t <= bounds.number("lte"))
}
