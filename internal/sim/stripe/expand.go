package stripe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

func toTree(v any) map[string]any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sim/stripe: render %T: %v", v, err)) // Our own types can't fail.
	}
	var tree map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		panic(fmt.Sprintf("sim/stripe: read %T back: %v", v, err)) // Objects all.
	}
	return tree
}

// expandable are the properties that hold an id, or what leads to one.
var expandable = []string{
	"balance_transaction", "charge", "customer", "data", "default_payment_method", "failure_balance_transaction", "invoice_settings",
	"last_payment_error", "latest_charge", "payment_intent", "payment_method", "source",
}

// expansions is a list of dotted paths (docs.stripe.com/api/expanding_objects).
func expansions(at string, value any) *problem {
	if wrong := list(at, value); wrong != nil {
		return wrong
	}
	for _, path := range (params{at: value}).list(at) {
		for name := range strings.SplitSeq(path, ".") {
			if !slices.Contains(expandable, name) {
				return malformed("This property cannot be expanded ("+path+").", at)
			}
		}
	}
	return nil
}

// expand replaces the id at a dotted path by its object, where there is one.
func (c *call) expand(tree map[string]any, path string) {
	name, rest, deeper := strings.Cut(path, ".")
	switch value := tree[name].(type) {
	case string:
		if found := c.object(value); found != nil {
			tree[name] = toTree(found)
		}
	case []any:
		for _, item := range value {
			if child, ok := item.(map[string]any); ok && deeper {
				c.expand(child, rest)
			}
		}
	}
	if child, ok := tree[name].(map[string]any); ok && deeper {
		c.expand(child, rest)
	}
}

// object is nil where there is none.
func (c *call) object(id string) any {
	prefix, _, _ := strings.Cut(id, "_")
	find := map[string]func() (any, bool){
		"pi":   func() (any, bool) { return found(&c.intents, id) },
		"ch":   func() (any, bool) { return found(&c.charges, id) },
		"py":   func() (any, bool) { return found(&c.charges, id) },
		"re":   func() (any, bool) { return found(&c.refunds, id) },
		"cus":  func() (any, bool) { return found(&c.customers, id) },
		"pm":   func() (any, bool) { return found(&c.methods, id) },
		"seti": func() (any, bool) { return found(&c.setups, id) },
		"txn":  func() (any, bool) { return found(&c.balance, id) },
	}[prefix]
	if find == nil {
		return nil
	}
	if v, ok := find(); ok {
		return v
	}
	return nil
}

func found[T any](s *shelf[T], id string) (any, bool) {
	v, ok := s.byID[id]
	return v, ok
}
