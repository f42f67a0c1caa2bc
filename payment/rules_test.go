package payment

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/fault"
)

// TestWhenAnotherProviderMayBeTried is the table of the package, line by line.
func TestWhenAnotherProviderMayBeTried(t *testing.T) {
	one := func(k fault.Kind) error { return &fault.Error{Kind: k, Deduped: true, Err: errors.New("x")} }
	history := func(kinds ...fault.Kind) error {
		e := &fault.Error{Kind: kinds[len(kinds)-1], Attempts: len(kinds)}
		for _, k := range kinds {
			e.Tried = append(e.Tried, one(k).(*fault.Error)) //nolint:errorlint // see above
		}
		return e
	}
	local := &fault.Error{Kind: fault.Unavailable, Local: true}
	for name, row := range map[string]struct {
		step  step
		err   error
		optIn bool
		want  next
	}{
		"nothing was sent, to prepare":                    {prepareStep, one(fault.Unavailable), false, tryAnother},
		"nothing was sent, to commit":                     {commitStep, one(fault.Unavailable), false, tryAnother},
		"nothing was sent in any of three":                {commitStep, history(fault.Unavailable, fault.Unavailable, fault.Unavailable), false, tryAnother},
		"refused by ourselves":                            {commitStep, local, false, tryAnother},
		"429":                                             {commitStep, one(fault.RateLimited), false, tryAnother},
		"429 after an attempt that may have acted":        {commitStep, history(fault.Uncertain, fault.RateLimited), false, settle},
		"nothing was sent, after one that may have acted": {commitStep, history(fault.Uncertain, fault.Unavailable), false, settle},
		"the provider can't":                              {prepareStep, one(fault.Unsupported), false, tryAnother},
		"its quota is used up":                            {prepareStep, one(fault.Exhausted), false, tryAnother},
		"an ambiguous prepare":                            {prepareStep, one(fault.Uncertain), false, tryAnother},
		"401 or 403":                                      {prepareStep, one(fault.Denied), false, giveUp},
		"401 or 403 with the opt-in":                      {prepareStep, one(fault.Denied), true, tryAnother},
		"401 after a commit that may have acted, opt-in":  {commitStep, history(fault.Uncertain, fault.Denied), true, settle},
		"400":                                 {prepareStep, one(fault.Invalid), true, giveUp},
		"404":                                 {commitStep, one(fault.NotFound), true, giveUp},
		"the key was used for something else": {prepareStep, one(fault.Conflict), true, giveUp},
		"declined":                            {commitStep, one(fault.Rejected), true, giveUp},
		"a commit that ended in 5xx, timeout, EOF":          {commitStep, one(fault.Uncertain), true, settle},
		"a commit of which nothing is known":                {commitStep, errors.New("x"), true, settle},
		"a commit that was cut off":                         {commitStep, history(fault.Canceled), true, settle},
		"a prepare that the caller gave up before it began": {prepareStep, &fault.Error{Kind: fault.Canceled, Local: true, Err: context.Canceled}, true, giveUp},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, row.want, after(row.step, row.err, row.optIn))
		})
	}
}
