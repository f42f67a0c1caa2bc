package payment

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/smilefactory/integrations/fault"
)

// FieldError says which field is wrong and why. It never quotes it.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return "payment: " + e.Field + ": " + e.Problem }

// invalid is a fault of kind Invalid about a field.
func invalid(field, problem string) error {
	return fault.New(fault.Invalid, &FieldError{field, problem})
}

// problems collects what is wrong.
type problems []error

func (p *problems) require(ok bool, field, format string, args ...any) {
	if !ok {
		*p = append(*p, &FieldError{field, fmt.Sprintf(format, args...)})
	}
}

func (p *problems) fault() error {
	if len(*p) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, errors.Join(*p...))
}

// Validate checks an order without any I/O; Charge does so first.
func (o *Order) Validate() error {
	var p problems
	p.require(o.ID != "" && isID(o.ID, maxOrderID), "id", "must be 1 to %d of [A-Za-z0-9_-]", maxOrderID)
	p.require(isID(o.User, maxUser), "user", "must be at most %d of [A-Za-z0-9_-]", maxUser)
	p.require(o.currency().Valid(), "amount.currency", "isn't a currency of ISO 4217 in capitals")
	p.require(o.Amount.Minor > 0, "amount.minor", "must be positive")
	p.require(o.ReturnURL == "" || isURL(o.ReturnURL), "return_url", "must be an https URL without a password, or http on the loopback")
	p.require(o.CancelURL == "" || isURL(o.CancelURL), "cancel_url", "must be an https URL without a password, or http on the loopback")
	p.require(o.Presence <= MerchantInitiated, "presence", "is none there is")
	p.require(o.Save < saveUnknown, "save", "is none there is")
	p.require(o.Presence == CustomerPresent || o.Save == SaveNot, "save", "needs the customer present")
	p.require(o.Presence == CustomerPresent || len(o.Methods) > 0, "methods", "a merchant initiated payment needs a saved one")
	p.require(o.Fee.valid(), "fee", "must be from 0 to 10000 basis points, with a rounding there is")
	p.require(o.Try >= 0 && o.Try <= maxAttempts, "try", "must be from 0 to %d", maxAttempts)
	p.require(utf8.ValidString(o.Description) && utf8.RuneCountInString(o.Description) <= maxDescription && !strings.ContainsFunc(o.Description, isControl),
		"description", "must have at most %d printable characters", maxDescription)
	for _, name := range slices.Sorted(maps.Keys(o.Methods)) {
		m := o.Methods[name]
		known := m.ID == "" && m.Customer != "" && o.Presence == CustomerPresent // who chooses in the provider's form
		p.require(known || isProviderID(m.ID), "methods."+name+".id", noProviderID)
		p.require(m.Customer == "" || isProviderID(m.Customer), "methods."+name+".customer", noProviderID)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Payees)) {
		p.require(isProviderID(o.Payees[name]), "payees."+name, noProviderID)
	}
	return p.fault()
}

const maxDescription = 127 // PayPal's purchase_unit.description

func (o *Order) currency() Currency {
	if o.Amount.Currency == "" {
		return USD
	}
	return o.Amount.Currency
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// isURL reports whether s is an address that a customer may be sent to.
func isURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || len(s) > 2048 || u.Host == "" || u.User != nil || strings.ContainsFunc(s, isControl) {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())
}

func isLoopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

const noProviderID = "isn't an id of the provider's: 1 to 255 printable ASCII characters without spaces, slashes and the like. " +
	"A card's number must never come here: send the token that the provider's own form made of it"

// isProviderID reports whether s may stand in a path or a form, and is no card
// number: 13 to 19 digits with a check digit (ISO/IEC 7812-1).
func isProviderID(s string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.:=+", r)
	}
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, odd) && strings.Trim(s, ".") != "" && !isCardNumber(s)
}

// isCardNumber ignores what people write between the digits.
func isCardNumber(s string) bool {
	digits := strings.NewReplacer("-", "", ".", "", "_", "", " ", "").Replace(s)
	if len(digits) < 13 || len(digits) > 19 || strings.ContainsFunc(digits, notDigit) {
		return false
	}
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return sum%10 == 0
}

// Validate checks what is to be set up.
func (s *Setup) Validate() error {
	var p problems
	p.require(s.ID != "" && isID(s.ID, maxOrderID), "id", "must be 1 to %d of [A-Za-z0-9_-]", maxOrderID)
	p.require(isID(s.User, maxUser), "user", "must be at most %d of [A-Za-z0-9_-]", maxUser)
	p.require(s.Customer == "" || isProviderID(s.Customer), "customer", noProviderID)
	p.require(s.Method == "" || isProviderID(s.Method), "method", noProviderID)
	p.require(s.ReturnURL == "" || isURL(s.ReturnURL), "return_url", "must be an https URL without a password, or http on the loopback")
	p.require(s.CancelURL == "" || isURL(s.CancelURL), "cancel_url", "must be an https URL without a password, or http on the loopback")
	return p.fault()
}
