package payment_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

func TestAWrongOrderIsRefusedBeforeAnyIOAndTheFieldIsNamed(t *testing.T) {
	for name, row := range map[string]struct {
		change func(o *payment.Order)
		field  string
	}{
		"no id":                       {func(o *payment.Order) { o.ID = "" }, "id"},
		"an id with a space":          {func(o *payment.Order) { o.ID = "a b" }, "id"},
		"an id too long":              {func(o *payment.Order) { o.ID = strings.Repeat("a", 45) }, "id"},
		"no amount":                   {func(o *payment.Order) { o.Amount.Minor = 0 }, "amount.minor"},
		"a negative amount":           {func(o *payment.Order) { o.Amount.Minor = -1 }, "amount.minor"},
		"no such currency":            {func(o *payment.Order) { o.Amount.Currency = "usd" }, "amount.currency"},
		"an address for a user":       {func(o *payment.Order) { o.User = "a@example.com" }, "user"},
		"a card's number":             {func(o *payment.Order) { o.Methods["first"] = payment.Method{ID: "4242424242424242"} }, "methods.first.id"},
		"a card's number with dashes": {func(o *payment.Order) { o.Methods["first"] = payment.Method{ID: "4242-4242-4242-4242"} }, "methods.first.id"},
		"a method with a slash":       {func(o *payment.Order) { o.Methods["first"] = payment.Method{ID: "a/../b"} }, "methods.first.id"},
		"a line break":                {func(o *payment.Order) { o.Methods["first"] = payment.Method{ID: "a\r\nX: y"} }, "methods.first.id"},
		"a customer with a query":     {func(o *payment.Order) { o.Methods["first"] = payment.Method{ID: "a", Customer: "c?x=y"} }, "methods.first.customer"},
		"a return over http":          {func(o *payment.Order) { o.ReturnURL = "http://shop.example.com/" }, "return_url"},
		"a return to a script":        {func(o *payment.Order) { o.ReturnURL = "javascript:alert(1)" }, "return_url"},
		"a return with a password":    {func(o *payment.Order) { o.ReturnURL = "https://u:p@shop.example.com/" }, "return_url"},
		"a cancel over http":          {func(o *payment.Order) { o.CancelURL = "http://shop.example.com/" }, "cancel_url"},
		"a presence there isn't":      {func(o *payment.Order) { o.Presence = 9 }, "presence"},
		"a save there isn't":          {func(o *payment.Order) { o.Save = 9 }, "save"},
		"nobody there who could save": {func(o *payment.Order) { o.Presence, o.Save = payment.MerchantInitiated, payment.OffSession }, "save"},
		"nobody there to choose":      {func(o *payment.Order) { o.Presence, o.Methods = payment.MerchantInitiated, nil }, "methods"},
		"a fee over the whole":        {func(o *payment.Order) { o.Fee.BasisPoints = 10_001 }, "fee"},
		"a payee with a space":        {func(o *payment.Order) { o.Payees = map[string]string{"first": "a b"} }, "payees.first"},
		"a description with a tab":    {func(o *payment.Order) { o.Description = "a\tb" }, "description"},
		"a description too long":      {func(o *payment.Order) { o.Description = strings.Repeat("ä", 128) }, "description"},
		"a negative try":              {func(o *payment.Order) { o.Try = -1 }, "try"},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup(t)
			o := order("o", paymenttest.Good)
			row.change(o)
			_, err := s.pay.Charge(t.Context(), o)
			require.ErrorIs(t, err, fault.Invalid)
			assert.ErrorContains(t, err, "payment: "+row.field+": ")
			assert.NotContains(t, err.Error(), "4242")
			assert.Zero(t, s.first.Calls(paymenttest.Prepare))
			_, err = s.journal.Entry(t.Context(), payment.Key{Order: o.ID})
			assert.ErrorIs(t, err, fault.NotFound)
		})
	}
}

func TestOrdersThatAreRight(t *testing.T) {
	for name, change := range map[string]func(o *payment.Order){
		"no currency is USD":             func(o *payment.Order) { o.Amount.Currency = "" },
		"a page on the loopback":         func(o *payment.Order) { o.ReturnURL = "http://127.0.0.1:8080/paid" },
		"digits that are no card number": func(o *payment.Order) { o.Methods["first"] = payment.Method{ID: "4242424242424241"} },
		"a customer who will choose":     func(o *payment.Order) { o.Methods["first"] = payment.Method{Customer: "cus_1"} },
		"an emoji in the description":    func(o *payment.Order) { o.Description = "Fahrrad 🚲" },
	} {
		o := order("o", paymenttest.Good)
		change(o)
		assert.NoError(t, o.Validate(), name)
	}
}

// TestNoFloatsInPayments: a float can't hold 0.1.
func TestNoFloatsInPayments(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				assert.NotContains(t, []string{"float32", "float64", "complex128", "ParseFloat", "FormatFloat", "Float64"}, n.Name, path)
			case *ast.BasicLit:
				assert.NotEqual(t, token.FLOAT, n.Kind, "%s: %s", path, n.Value)
			}
			return true
		})
		return nil
	})
	require.NoError(t, err)
	assert.Greater(t, files, 20)
}

func FuzzParseReference(f *testing.F) {
	f.Add("order-4711.2@tenant:user-42")
	f.Add("o.1")
	f.Fuzz(func(t *testing.T, s string) {
		if r := payment.ParseReference(s); r != (payment.Reference{}) && r.String() != s {
			t.Errorf("%q became %q", s, r.String())
		}
	})
}

func TestAReferenceIsWhatWasWritten(t *testing.T) {
	long := payment.Reference{
		Order: strings.Repeat("o", 44), Tenant: strings.Repeat("t", 36), User: strings.Repeat("u", 36), Attempt: 999,
	}
	for _, r := range []payment.Reference{
		long, {Order: "o", Attempt: 1}, {Order: "o", Attempt: 1, Tenant: "t"}, {Order: "o", Attempt: 1, User: "u"},
	} {
		assert.Equal(t, r, payment.ParseReference(r.String()))
	}
	assert.LessOrEqual(t, len(long.String()), 127)
	for _, s := range []string{"", "o", "o.", "o.0", "o.01", "o.+1", ".1", "o.1@", "o.1:", "o.1000", "o.1@t t", "sub_123", "o.1@a@b", "o.1:a:b"} {
		assert.Zero(t, payment.ParseReference(s), "%q", s)
	}
}
