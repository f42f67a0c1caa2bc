package stripe

import (
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
