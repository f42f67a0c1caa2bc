package payment

import (
	"errors"
	"strings"

	"github.com/smilefactory/integrations/fault"
)

// causes are errors that say why, and are no kind themselves: a charge that
// provably wasn't made doesn't match fault.Uncertain since one of its steps was.
// errors.As reaches the vendors' own errors.
type causes []error

func (c causes) Error() string {
	var says []string
	for _, err := range c {
		if err != nil {
			says = append(says, err.Error())
		}
	}
	return strings.Join(says, "; ")
}

// As looks behind faults, of which there is one already.
func (c causes) As(target any) bool {
	if _, ok := target.(**fault.Error); ok {
		return false
	}
	for _, err := range c {
		if err != nil && errors.As(err, target) {
			return true
		}
	}
	return false
}

// Is matches what isn't a kind, such as context.Canceled.
func (c causes) Is(target error) bool {
	if _, ok := target.(fault.Kind); ok {
		return false
	}
	for _, err := range c {
		if err != nil && errors.Is(err, target) {
			return true
		}
	}
	return false
}

// of is a fault of that kind for these reasons.
func (c causes) of(k fault.Kind) error { return fault.New(k, c) }
