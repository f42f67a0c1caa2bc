package stripe

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// params are decoded parameters; a value is a string or params, a list is params with the keys "0", "1", ….
type params map[string]any

// decode reads a form whose keys nest in brackets: metadata[order_id]=1, expand[]=customer, expand[0]=customer
// (docs.stripe.com/api, the requests in its examples).
func decode(form string) (params, *problem) {
	values, err := url.ParseQuery(form)
	if err != nil {
		return nil, malformed("Invalid request: the form can't be parsed.", "")
	}
	out := params{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		for _, value := range values[key] {
			if p := out.put(key, value); p != nil {
				return nil, p
			}
		}
	}
	return out, nil
}

func (p params) put(key, value string) *problem {
	path, ok := split(key)
	if !ok {
		return malformed("Invalid request: invalid parameter name.", key)
	}
	at := p
	for i, name := range path {
		if name == "" {
			name = strconv.Itoa(len(at))
		}
		if i == len(path)-1 {
			at[name] = value
			return nil
		}
		next, ok := at[name].(params)
		if !ok && at[name] != nil {
			return malformed("Invalid request: a parameter is both a value and an object.", key)
		}
		if !ok {
			next = params{}
			at[name] = next
		}
		at = next
	}
	return nil
}

func split(key string) ([]string, bool) {
	name, rest, nested := strings.Cut(key, "[")
	path := []string{name}
	if !nested {
		return path, name != "" && !strings.Contains(name, "]")
	}
	rest, closed := strings.CutSuffix(rest, "]")
	return append(path, strings.Split(rest, "][")...), name != "" && closed
}

func (p params) has(name string) bool {
	_, ok := p[name]
	return ok
}

func (p params) text(name string) string {
	s, _ := p[name].(string)
	return s
}

// optional is nil where name is missing or empty: an empty value unsets (docs.stripe.com/api/metadata says so of
// metadata, the references of the other fields).
func (p params) optional(name string) *string {
	if s := p.text(name); s != "" {
		return &s
	}
	return nil
}

func (p params) number(name string) int64 {
	n, _ := strconv.ParseInt(p.text(name), 10, 64) // Checked before.
	return n
}

func (p params) truth(name string) bool { return p.text(name) == "true" }

func (p params) object(name string) params {
	o, _ := p[name].(params)
	return o
}

// list is in the order of the indexes.
func (p params) list(name string) []string {
	items := p.object(name)
	keys := slices.SortedFunc(maps.Keys(items), func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		out = append(out, items.text(k))
	}
	return out
}

// plain turns params into what JSON shows of them.
func (p params) plain() any {
	if p == nil {
		return nil
	}
	out := make(map[string]any, len(p))
	for k, v := range p {
		if nested, ok := v.(params); ok {
			v = nested.plain()
		}
		out[k] = v
	}
	return out
}

// check is what a parameter must be; at is its name as the caller wrote it.
type check func(at string, value any) *problem

// spec are the parameters that an operation knows. The names are those of the OpenAPI description of version 2023-10-16
// (github.com/stripe/openapi, the one embedded in stripe-mock v0.183.0).
type spec map[string]check

func with(specs ...spec) spec {
	out := spec{}
	for _, s := range specs {
		maps.Copy(out, s)
	}
	return out
}

// verify finds the first thing that is wrong (docs.stripe.com/error-codes: parameter_unknown).
func (s spec) verify(prefix string, p params) *problem {
	for _, name := range slices.Sorted(maps.Keys(p)) {
		at := name
		if prefix != "" {
			at = prefix + "[" + name + "]"
		}
		known, ok := s[name]
		if !ok {
			return invalid("parameter_unknown", at, "Received unknown parameter: %s", at)
		}
		if wrong := known(at, p[name]); wrong != nil {
			return wrong
		}
	}
	return nil
}

func text(at string, value any) *problem {
	if _, ok := value.(string); !ok {
		return malformed("Invalid string: "+at, at)
	}
	return nil
}

// id is a text that may not be empty (docs.stripe.com/error-codes: parameter_invalid_empty).
func id(at string, value any) *problem {
	if value == "" {
		return invalid("parameter_invalid_empty", at,
			"You passed an empty string for '%s'. We assume empty values are an attempt to unset a parameter; however '%s' cannot be unset. You should remove '%s' from your request or supply a non-empty value.", at, at, at)
	}
	return text(at, value)
}

// integer: docs.stripe.com/error-codes, parameter_invalid_integer.
func integer(at string, value any) *problem {
	s, _ := value.(string)
	if _, err := strconv.ParseInt(s, 10, 64); err != nil {
		return invalid("parameter_invalid_integer", at, "Invalid integer: %s", s)
	}
	return nil
}

func boolean(at string, value any) *problem { return oneOf("true", "false")(at, value) }

func oneOf(values ...string) check {
	return func(at string, value any) *problem {
		s, _ := value.(string)
		if !slices.Contains(values, s) {
			return malformed(fmt.Sprintf("Invalid %s: must be one of %s", at, strings.Join(values, ", ")), at)
		}
		return nil
	}
}

func object(s spec) check {
	return func(at string, value any) *problem {
		p, ok := value.(params)
		if !ok {
			return malformed("Invalid object", at)
		}
		return s.verify(at, p)
	}
}

// anything is a parameter that is taken, and at most shown again.
func anything(string, any) *problem { return nil }

// unsimulated is a parameter that Stripe knows and this simulator would do nothing about: no test shall lean on it.
func unsimulated(at string, _ any) *problem {
	return &problem{status: 501, detail: detail{Type: "api_error", Message: "the simulator doesn't simulate the parameter " + at, Param: at}}
}

func list(at string, value any) *problem {
	p, ok := value.(params)
	if !ok {
		return malformed("Invalid array", at)
	}
	for k, v := range p {
		if _, err := strconv.Atoi(k); err != nil {
			return malformed("Invalid array", at)
		}
		if _, ok := v.(string); !ok {
			return malformed("Invalid array", at)
		}
	}
	return nil
}

// Limits of docs.stripe.com/api/metadata.
const (
	maxMetadata      = 50
	maxMetadataKey   = 40
	maxMetadataValue = 500
)

func metadata(at string, value any) *problem {
	p, ok := value.(params)
	if !ok {
		if value == "" { // It unsets all.
			return nil
		}
		return malformed("Invalid object", at)
	}
	if len(p) > maxMetadata {
		return malformed("You can only have up to 50 metadata keys.", at)
	}
	for k, v := range p {
		s, ok := v.(string)
		switch {
		case !ok:
			return malformed("Metadata values must be strings.", at+"["+k+"]")
		case len([]rune(k)) > maxMetadataKey:
			return malformed("Metadata keys can have up to 40 characters.", at+"["+k+"]")
		case len([]rune(s)) > maxMetadataValue:
			return malformed("Metadata values can have up to 500 characters.", at+"["+k+"]")
		}
	}
	return nil
}

// merge joins metadata: an empty value unsets a key, an empty metadata unsets all (docs.stripe.com/api/metadata).
func merge(old map[string]string, p params) map[string]string {
	out := map[string]string{}
	if value, given := p["metadata"]; !given || value != "" {
		maps.Copy(out, old)
	}
	for k := range p.object("metadata") {
		if v := p.object("metadata").text(k); v != "" {
			out[k] = v
		} else {
			delete(out, k)
		}
	}
	return out
}
