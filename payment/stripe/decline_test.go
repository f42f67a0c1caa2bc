package stripe

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/payment"
)

// Every decline code that the SDK knows has a reason of its own in the table.
func TestEveryDeclineCodeOfTheSDKIsInTheTable(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/stripe/stripe-go/v76").Output()
	require.NoError(t, err)
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(out)), "error.go"), nil, 0)
	require.NoError(t, err)
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "DeclineCode") {
			return true
		}
		code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		assert.Contains(t, declines, code)
		n++
		return true
	})
	assert.Equal(t, 47, n)
}

func TestEveryReasonInTheTableHasAMessageForTheCustomer(t *testing.T) {
	for code, reason := range declines {
		d := payment.NewDecline(reason, code)
		assert.Equal(t, reason, d.Reason, code)
		assert.NotEmpty(t, d.Message, code)
		assert.Equal(t, code, word(code))
	}
}

func TestADeclineIsReadFromTheMostExactCode(t *testing.T) {
	for name, c := range map[string]struct {
		err    sdk.Error
		reason payment.DeclineReason
		code   string
	}{
		"a decline code":                   {sdk.Error{Code: "card_declined", DeclineCode: "insufficient_funds"}, payment.InsufficientFunds, "insufficient_funds"},
		"a code alone":                     {sdk.Error{Code: "expired_card"}, payment.ExpiredMethod, "expired_card"},
		"an unknown decline code":          {sdk.Error{Code: "card_declined", DeclineCode: "new_in_2027"}, payment.Generic, "new_in_2027"},
		"an unknown one with a known code": {sdk.Error{Code: "incorrect_cvc", DeclineCode: "new_in_2027"}, payment.IncorrectCVC, "incorrect_cvc"},
		"declined without more":            {sdk.Error{Code: "card_declined"}, payment.Generic, "card_declined"},
		"authentication, of old":           {sdk.Error{Code: "card_declined", DeclineCode: "authentication_required"}, payment.AuthenticationFault, "authentication_required"},
		"authentication":                   {sdk.Error{Code: "authentication_required"}, payment.AuthenticationFault, "authentication_required"},
		"nothing":                          {sdk.Error{}, payment.Generic, ""},
		"not a code":                       {sdk.Error{DeclineCode: "pi_1_secret_1"}, payment.Generic, ""},
	} {
		d := declined(&c.err)
		assert.Equal(t, c.reason, d.Reason, name)
		assert.Equal(t, c.code, d.Code, name)
	}
}

func TestOnlyWhatIsAboutTheMethodIsADecline(t *testing.T) {
	for name, c := range map[string]struct {
		err    sdk.Error
		status int
		want   bool
	}{
		"a card error":                           {sdk.Error{Type: sdk.ErrorTypeCard}, 402, true},
		"a card error with another status":       {sdk.Error{Type: sdk.ErrorTypeCard}, 400, true},
		"a provider's decline":                   {sdk.Error{Type: sdk.ErrorTypeInvalidRequest, Code: "payment_method_provider_decline"}, 402, true},
		"a token used before":                    {sdk.Error{Type: sdk.ErrorTypeInvalidRequest, Code: "token_already_used"}, 400, true},
		"a method that isn't there":              {sdk.Error{Type: sdk.ErrorTypeInvalidRequest, Code: "resource_missing", Param: "payment_method"}, 400, true},
		"a customer that isn't there":            {sdk.Error{Type: sdk.ErrorTypeInvalidRequest, Code: "resource_missing", Param: "customer"}, 400, false},
		"a failure of another kind":              {sdk.Error{Type: sdk.ErrorTypeInvalidRequest, Code: "new_in_2027"}, 402, false},
		"a state":                                {sdk.Error{Type: sdk.ErrorTypeInvalidRequest, Code: "payment_intent_unexpected_state"}, 400, false},
		"a server's trouble":                     {sdk.Error{Type: sdk.ErrorTypeAPI}, 500, false},
		"a code of a method with another status": {sdk.Error{Type: sdk.ErrorTypeInvalidRequest, Code: "incorrect_zip"}, 400, false},
	} {
		assert.Equal(t, c.want, declineOf(&c.err, c.status) != nil, name)
	}
}

func TestTheCurrencyTableIsConsistent(t *testing.T) {
	assert.Len(t, currencies, 138)
	for c, u := range currencies {
		assert.True(t, c.Valid(), c)
		assert.Positive(t, u.step, c)
		assert.GreaterOrEqual(t, u.lowest, u.step, c)
		back, err := money(u.lowest, sdk.Currency(strings.ToLower(string(c))))
		if assert.NoError(t, err, c) {
			n, err := amount(back)
			assert.NoError(t, err, c)
			assert.Equal(t, u.lowest, n, c)
		}
	}
	for c := range minimums {
		assert.Contains(t, currencies, c)
	}
	for c := range maximums {
		assert.Contains(t, currencies, c)
	}
}
