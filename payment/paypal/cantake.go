package paypal

import (
	"regexp"
	"strings"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// CanTake says what of an attempt PayPal can't do, without any I/O.
func (g *Gateway) CanTake(a *payment.Attempt) error {
	o := inDollars(a.Order)
	field, problem := payable(o.Amount)
	switch id := a.Method.ID; {
	case field != "":
	case a.Payee != "" && !account.MatchString(a.Payee):
		field, problem = "payee", "isn't a merchant's account id of 13 characters"
	case id != "" && !vaultID.MatchString(source(id).id):
		field, problem = "method.id", "isn't a vault id of PayPal's, alone or behind card: or venmo:"
	case id == "" && o.Presence == payment.MerchantInitiated:
		field, problem = "method", "is missing: without the customer PayPal needs a saved one"
	case id == "" && o.ReturnURL == "":
		field, problem = "return_url", "is missing: without a saved method the customer must approve at PayPal, and come back"
	}
	if field == "" {
		return nil
	}
	return unsupported(field, problem)
}

// inDollars is the order with the currency that an empty one means.
func inDollars(o *payment.Order) *payment.Order {
	if o.Amount.Currency != "" {
		return o
	}
	out := *o
	out.Amount.Currency = payment.USD
	return &out
}

func unsupported(field, problem string) error {
	return fault.New(fault.Unsupported, &payment.FieldError{Field: field, Problem: problem})
}

// vaultID is vault_id of the Orders v2 specification.
var vaultID = regexp.MustCompile(`^[0-9a-zA-Z_-]{1,255}$`)

// saved is a vault id with the kind of what it stands for.
type saved struct{ kind, id string }

// kindsOfSaved are those that a Method's id may begin with; a wallet's has none.
var kindsOfSaved = []string{"card", "venmo"}

// source reads a Method's id.
func source(id string) saved {
	for _, kind := range kindsOfSaved {
		if rest, ok := strings.CutPrefix(id, kind+":"); ok {
			return saved{kind, rest}
		}
	}
	return saved{provider, id}
}

// methodID is the reverse of source.
func (s saved) methodID() string {
	if s.kind == provider {
		return s.id
	}
	return s.kind + ":" + s.id
}
