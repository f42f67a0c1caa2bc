package paypal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// shape is what a value in a request's body must be. The specifications are far larger: what is named here is what the
// simulator looks at, and what callers may send without its being looked at ("opaque"). Anything else is refused,
// where PayPal itself is said to ignore it (unverified): a misspelt field must not pass.
type shape struct {
	kind     kind
	required bool
	min, max int // characters of a string, items of a list
	pattern  *regexp.Regexp
	oneOf    []string
	fields   map[string]shape // of a record
	items    *shape           // of a list
}

type kind int

const (
	opaque kind = iota
	aText
	aBool
	aRecord
	aList
)

var kindOf = map[kind]func(any) bool{
	opaque:  func(any) bool { return true },
	aText:   func(v any) bool { _, ok := v.(string); return ok },
	aBool:   func(v any) bool { _, ok := v.(bool); return ok },
	aRecord: func(v any) bool { _, ok := v.(object); return ok },
	aList:   func(v any) bool { _, ok := v.([]any); return ok },
}

// decode reads a body that must be one JSON value of the shape. An empty body is an empty record.
func decode(body []byte, s shape) (any, *problem) {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte(`{}`)
		if s.kind == aList {
			body = []byte(`[]`)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, malformed()
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed()
	}
	var found report
	found.check("", v, s)
	if len(found) > 0 {
		return nil, refuse(http.StatusBadRequest, found...)
	}
	return v, nil
}

func malformed() *problem {
	return refuse(http.StatusBadRequest, detail{Field: "/", Location: "body", Issue: "MALFORMED_REQUEST_JSON", Description: descriptions["MALFORMED_REQUEST_JSON"]})
}

// report collects all that is wrong.
type report []detail

func (r *report) add(field, name string) {
	*r = append(*r, detail{Field: field, Location: "body", Issue: name, Description: descriptions[name]})
}

func (r *report) check(field string, v any, s shape) {
	if !kindOf[s.kind](v) {
		r.add(field, "INVALID_PARAMETER_SYNTAX")
		return
	}
	switch v := v.(type) {
	case string:
		r.checkText(field, v, s)
	case []any:
		r.checkList(field, v, s)
	case object:
		r.checkRecord(field, v, s)
	}
}

func (r *report) checkText(field, v string, s shape) {
	if s.kind != aText {
		return
	}
	n := utf8.RuneCountInString(v)
	switch {
	case n < s.min || s.max > 0 && n > s.max:
		r.add(field, "INVALID_STRING_LENGTH")
	case s.pattern != nil && !s.pattern.MatchString(v):
		r.add(field, "INVALID_PARAMETER_SYNTAX")
	case s.oneOf != nil && !slices.Contains(s.oneOf, v):
		r.add(field, "INVALID_PARAMETER_VALUE")
	}
}

func (r *report) checkList(field string, v []any, s shape) {
	if s.kind != aList {
		return
	}
	if len(v) < s.min {
		r.add(field, "INVALID_ARRAY_MIN_ITEMS")
	}
	if s.max > 0 && len(v) > s.max {
		r.add(field, "INVALID_ARRAY_MAX_ITEMS")
	}
	for i, item := range v {
		r.check(field+"/"+strconv.Itoa(i), item, *s.items)
	}
}

func (r *report) checkRecord(field string, v object, s shape) {
	if s.kind != aRecord {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		at := field + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		if sub, known := s.fields[name]; known {
			r.check(at, v[name], sub)
		} else {
			r.add(at, "NOT_SUPPORTED")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.fields)) {
		if _, given := v[name]; s.fields[name].required && !given {
			r.add(field+"/"+name, "MISSING_REQUIRED_PARAMETER")
		}
	}
}

// text is a string field, empty where it isn't there.
func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// record is an object field, nil where it isn't there.
func record(o object, name string) object {
	r, _ := o[name].(object)
	return r
}

// at follows a path of object fields.
func at(o object, path ...string) object {
	for _, name := range path {
		o = record(o, name)
	}
	return o
}

func list(o object, name string) []object {
	raw, _ := o[name].([]any)
	out := make([]object, 0, len(raw))
	for _, item := range raw {
		if entry, ok := item.(object); ok {
			out = append(out, entry)
		}
	}
	return out
}
