package paypal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

const (
	setupPath  = "/v3/vault/setup-tokens"
	tokensPath = "/v3/vault/payment-tokens" //nolint:gosec // a path
	// pageSize and maxPages of a customer's methods (Payment Method Tokens v3
	// specification, page_size and total_pages).
	pageSize = 5
	maxPages = 10
)

// customerID is merchant_partner_customer_id of the Payment Method Tokens v3
// specification.
var customerID = regexp.MustCompile(`^[0-9a-zA-Z_-]{1,22}$`)

// setup is setup_token_request, and payment_token_request: what is to be saved, and
// for whom.
type setup struct {
	Customer *holder        `json:"customer,omitempty"`
	Source   map[string]any `json:"payment_source"`
}

type holder struct {
	ID string `json:"id"`
}

// consent is paypal_wallet_request.
type consent struct {
	UsageType  string      `json:"usage_type"`
	Experience *experience `json:"experience_context"`
}

// tokenized is token_id_request. The specification knows the type BILLING_AGREEMENT
// alone; SETUP_TOKEN is that of PayPal's guide "Save PayPal with the Payment Method
// Tokens API".
type tokenized struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

// vaulted is setup_token_response and payment_token_response.
type vaulted struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Customer holder `json:"customer"`
	Links    links  `json:"links"`
	Source   map[string]struct {
		Brand  string `json:"brand"`
		Last4  string `json:"last_digits"`
		Expiry string `json:"expiry"`
	} `json:"payment_source"`
}

// SetupPaymentMethod begins to save a PayPal wallet: the customer agrees at PayPal, and comes back
// with the id of the result, which [Gateway.Attach] makes a method of. Where Method
// is given it is such an id, of a wallet, or of a card from PayPal's own fields.
func (g *Gateway) SetupPaymentMethod(ctx context.Context, s *payment.Setup) (*payment.SetupResult, error) {
	if s.Method != "" {
		m, err := g.attach(ctx, s.Customer, s.Method, s.Key)
		if err != nil {
			return g.notSaved(s, err)
		}
		return &payment.SetupResult{ID: s.Method, Customer: m.Customer, Method: m}, nil
	}
	switch {
	case s.Customer != "" && !customerID.MatchString(s.Customer):
		return nil, wrong("customer", noCustomer)
	case s.ReturnURL == "":
		return nil, unsupported("return_url", "is missing: the customer must agree at PayPal, and come back")
	case s.Key == "":
		return nil, wrong("key", "is missing: PayPal takes no setup without one")
	}
	body := setup{Customer: holderOf(s.Customer), Source: map[string]any{provider: consent{
		UsageType: "MERCHANT", Experience: &experience{
			ReturnURL: s.ReturnURL, CancelURL: cmp.Or(s.CancelURL, s.ReturnURL), ShippingPreference: "NO_SHIPPING",
		},
	}}}
	var made vaulted
	r := &request{op: "create setup token", method: http.MethodPost, path: setupPath, body: body, key: s.Key, deduped: true}
	if err := g.call(ctx, r, &made); err != nil {
		return nil, err
	}
	return made.setUp(r)
}

func (v *vaulted) setUp(r *request) (*payment.SetupResult, error) {
	out := &payment.SetupResult{ID: v.ID, Customer: v.Customer.ID}
	if !ids.MatchString(v.ID) {
		return nil, r.mark(uncertain("create setup token: the answer has no token"))
	}
	if link := v.Links.approval(); link != "" {
		out.Action = &payment.NextAction{Provider: provider, RedirectURL: link}
	}
	return out, nil
}

// notSaved tells a refusal of the method from what else went wrong.
func (g *Gateway) notSaved(s *payment.Setup, err error) (*payment.SetupResult, error) {
	if reason, ok := declines[issue(err)]; ok {
		return &payment.SetupResult{ID: s.Method, Customer: s.Customer, Decline: payment.NewDecline(reason, issue(err))}, nil
	}
	return nil, err
}

// Attach saves what a setup token stands for, once the customer has agreed. The same
// token attached twice is one method, for 3 hours.
func (g *Gateway) Attach(ctx context.Context, customer, method string) (*payment.SavedMethod, error) {
	h := sha256.New()
	for _, part := range []string{g.Identity().Account, strconv.FormatBool(g.Sandbox), customer, method, "attach"} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return g.attach(ctx, customer, method, hex.EncodeToString(h.Sum(nil)))
}

func (g *Gateway) attach(ctx context.Context, customer, method, key string) (*payment.SavedMethod, error) {
	id := source(method).id
	switch {
	case customer != "" && !customerID.MatchString(customer):
		return nil, wrong("customer", noCustomer)
	case !ids.MatchString(id):
		return nil, wrong("method", "isn't the id of a setup token")
	case key == "":
		return nil, wrong("key", "is missing: PayPal saves nothing without one")
	}
	body := setup{Customer: holderOf(customer), Source: map[string]any{"token": tokenized{id, "SETUP_TOKEN"}}}
	var made vaulted
	r := &request{op: "create payment token", method: http.MethodPost, path: tokensPath, body: body, key: key, deduped: true}
	if err := g.call(ctx, r, &made); err != nil {
		return nil, err
	}
	m, ok := made.method()
	switch {
	case !ok:
		return nil, r.mark(uncertain("create payment token: the answer has no method"))
	case customer != "" && m.Customer != customer:
		return nil, fault.New(fault.Conflict, &payment.FieldError{Field: "customer", Problem: "isn't the one whose setup token this is"})
	}
	return m, nil
}

const noCustomer = "isn't a customer's id of PayPal's: 1 to 22 of [A-Za-z0-9_-]"

func wrong(field, problem string) error {
	return fault.New(fault.Invalid, &payment.FieldError{Field: field, Problem: problem})
}

func holderOf(customer string) *holder {
	if customer == "" {
		return nil
	}
	return &holder{customer}
}

// method is what may be shown of a saved method; ok is false for a kind that orders
// can't be paid with here.
func (v *vaulted) method() (m *payment.SavedMethod, ok bool) {
	for kind, s := range v.Source {
		if kind != provider && !slices.Contains(kindsOfSaved, kind) || !vaultID.MatchString(v.ID) {
			continue
		}
		year, month, _ := strings.Cut(s.Expiry, "-")
		m = &payment.SavedMethod{
			Method: payment.Method{ID: saved{kind, v.ID}.methodID(), Customer: v.Customer.ID},
			Type:   kind, Brand: s.Brand, Last4: s.Last4, Reusable: true,
		}
		m.ExpYear, _ = strconv.Atoi(year)
		m.ExpMonth, _ = strconv.Atoi(month)
		return m, true
	}
	return nil, false
}

// SavedMethods lists the customer's wallets and cards.
func (g *Gateway) SavedMethods(ctx context.Context, customer string) ([]payment.SavedMethod, error) {
	if !customerID.MatchString(customer) {
		return nil, wrong("customer", noCustomer)
	}
	var out []payment.SavedMethod
	for page := 1; page <= maxPages; page++ {
		var list struct {
			Pages  int       `json:"total_pages"`
			Tokens []vaulted `json:"payment_tokens"`
		}
		path := fmt.Sprintf("%s?customer_id=%s&page_size=%d&page=%d&total_required=true", tokensPath, customer, pageSize, page)
		if err := g.call(ctx, &request{op: "list payment tokens", method: http.MethodGet, path: path}, &list); err != nil {
			return nil, err
		}
		for _, t := range list.Tokens {
			if m, ok := t.method(); ok {
				m.Customer = cmp.Or(m.Customer, customer)
				out = append(out, *m)
			}
		}
		if page >= list.Pages {
			break
		}
	}
	return out, nil
}

// Detach forgets a method of this customer's. PayPal deletes whatever it is told to,
// so the method is looked up first.
func (g *Gateway) Detach(ctx context.Context, customer, method string) error {
	id, err := segment("method", source(method).id)
	switch {
	case err != nil:
		return err
	case !customerID.MatchString(customer):
		return wrong("customer", noCustomer)
	}
	var found vaulted
	if err := g.call(ctx, &request{op: "look up payment token", method: http.MethodGet, path: tokensPath + "/" + id}, &found); err != nil {
		return err
	}
	if found.Customer.ID != customer {
		return fault.New(fault.NotFound, &payment.FieldError{Field: "method", Problem: "isn't kept for this customer"})
	}
	return g.call(ctx, &request{op: "delete payment token", method: http.MethodDelete, path: tokensPath + "/" + id}, nil)
}

// SetDefault is fault.Unsupported: PayPal knows no usual method of a customer.
func (g *Gateway) SetDefault(context.Context, string, string) error {
	return unsupported("method", "PayPal knows no usual method of a customer: keep it beside your customer")
}
