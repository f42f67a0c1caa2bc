package stripe

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

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
