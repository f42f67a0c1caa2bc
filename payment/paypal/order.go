package paypal

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/payment"
)

const ordersPath = "/v2/checkout/orders"

// approvalTime is what there is to send the customer to PayPal (Orders v2
// specification, order.links; some accounts have more).
const approvalTime = 3 * time.Hour

// created is what an order is made of (Orders v2 specification, order_request).
type created struct {
	Intent string            `json:"intent"`
	Units  []unit            `json:"purchase_units"`
	Source *map[string]payer `json:"payment_source,omitempty"`
}

// unit is purchase_unit_request, and of purchase_unit what is read.
type unit struct {
	Amount      money  `json:"amount"`
	Payee       *payee `json:"payee,omitempty"`
	Description string `json:"description,omitempty"`
	CustomID    string `json:"custom_id,omitempty"`
	InvoiceID   string `json:"invoice_id,omitempty"`

	Payments *payments `json:"payments,omitempty"` // of answers alone
}

type payee struct {
	MerchantID string `json:"merchant_id"`
}

// payer is how the customer pays: payment_source.paypal and its like.
type payer struct {
	VaultID    string      `json:"vault_id,omitempty"`
	Experience *experience `json:"experience_context,omitempty"`
	Attributes *attributes `json:"attributes,omitempty"`
	Stored     *stored     `json:"stored_credential,omitempty"`
}

type experience struct {
	ReturnURL          string `json:"return_url,omitempty"`
	CancelURL          string `json:"cancel_url,omitempty"`
	UserAction         string `json:"user_action,omitempty"`
	ShippingPreference string `json:"shipping_preference,omitempty"`
}

type attributes struct {
	Vault vaulting `json:"vault"`
}

type vaulting struct {
	StoreInVault string `json:"store_in_vault"`
	UsageType    string `json:"usage_type"`
}

// stored is card_stored_credential.
type stored struct {
	Initiator string `json:"payment_initiator"`
	Type      string `json:"payment_type"`
	Usage     string `json:"usage"`
}

// order is what is read of an order (Orders v2 specification, schema order).
type order struct {
	ID         string    `json:"id"`
	Status     string    `json:"status"`
	Intent     string    `json:"intent"`
	CreateTime time.Time `json:"create_time"`
	UpdateTime string    `json:"update_time"`
	Units      []unit    `json:"purchase_units"`
	Links      links     `json:"links"`
	Source     map[string]struct {
		Attributes struct {
			Vault struct {
				ID       string      `json:"id"`
				Status   string      `json:"status"`
				Customer payerOfPart `json:"customer"`
			} `json:"vault"`
		} `json:"attributes"`
	} `json:"payment_source"`
}

type payerOfPart struct {
	ID string `json:"id"`
}

type links []struct {
	Href string `json:"href"`
	Rel  string `json:"rel"`
}

// approval is where the customer is to go: "payer-action" where the way to pay was
// named, else "approve"; empty where there is none.
func (l links) approval() string {
	for _, rel := range []string{"payer-action", "approve"} {
		for _, link := range l {
			if link.Rel == rel && isPage(link.Href) {
				return link.Href
			}
		}
	}
	return ""
}

// isPage: PayPal's own are https, and a simulator's may be on the loopback.
func isPage(href string) bool {
	u, err := url.Parse(href)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http" && transport.IsLoopback(u.Hostname())) && u.User == nil
}

// mine refuses an attempt of another account or environment, which the settings may
// have changed to.
func (g *Gateway) mine(a *payment.Attempt) error {
	if a.Identity != (payment.Identity{}) && a.Identity != g.Identity() {
		return fault.New(fault.Denied, &payment.FieldError{Field: "identity", Problem: "is another account's or environment's than these settings'"})
	}
	return nil
}

// Prepare creates the order, with nothing that PayPal could charge: a vault id here
// would be charged at once. An attempt whose PaymentID is known is looked up.
func (g *Gateway) Prepare(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	if a.PaymentID != "" {
		return g.LookUp(ctx, a)
	}
	if err := g.mine(a); err != nil {
		return nil, err
	}
	if err := g.CanTake(a); err != nil {
		return nil, err
	}
	if !kept(a.Began, ordersKeep) {
		return nil, uncertain("create order: the attempt began more than 6 hours ago, so that the same key would make a second order")
	}
	r := &request{op: "create order", method: http.MethodPost, path: ordersPath, body: g.created(a), key: a.Key("prepare"), deduped: true}
	var o order
	if err := g.call(ctx, r, &o); err != nil {
		return nil, err
	}
	p, err := g.payment(a, &o)
	switch {
	case err != nil:
		return nil, r.mark(err)
	case p.Reference != a.Reference() || p.Amount != inDollars(a.Order).Amount:
		return nil, fault.New(fault.Conflict, errors.New("paypal: create order: the key was used for another order"))
	}
	return p, nil
}

func (g *Gateway) created(a *payment.Attempt) *created {
	o := inDollars(a.Order)
	u := unit{
		Amount: moneyOf(o.Amount), Description: o.Description,
		CustomID: a.Reference().String(), InvoiceID: invoice(a),
	}
	if a.Payee != "" {
		u.Payee = &payee{a.Payee}
	}
	out := &created{Intent: "CAPTURE", Units: []unit{u}}
	if o.Hold {
		out.Intent = "AUTHORIZE"
	}
	if a.Method.ID == "" {
		out.Source = &map[string]payer{provider: g.wallet(o)}
	}
	return out
}

// wallet is the customer who is to approve.
func (g *Gateway) wallet(o *payment.Order) payer {
	w := payer{Experience: pages(o)}
	w.Experience.UserAction, w.Experience.ShippingPreference = "PAY_NOW", "NO_SHIPPING"
	if g.Shipping {
		w.Experience.ShippingPreference = "GET_FROM_FILE"
	}
	if o.Save != payment.SaveNot {
		w.Attributes = &attributes{vaulting{"ON_SUCCESS", "MERCHANT"}}
	}
	return w
}

func pages(o *payment.Order) *experience {
	return &experience{ReturnURL: o.ReturnURL, CancelURL: cmp.Or(o.CancelURL, o.ReturnURL)}
}

// invoice is the same for all attempts of an order, so that PayPal refuses to be
// paid twice for it.
func invoice(a *payment.Attempt) string {
	if a.Tenant == "" {
		return a.Order.ID
	}
	return a.Order.ID + "@" + a.Tenant
}

// LookUp asks PayPal for the order. One that nobody approved in time can't be found
// any more, and has ended.
func (g *Gateway) LookUp(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	o, err := g.order(ctx, a)
	switch {
	case err != nil && fault.KindOf(err) == fault.NotFound && expired(a):
		return g.ended(a, "EXPIRED"), nil
	case err != nil:
		return nil, err
	}
	return g.payment(a, o)
}

// longest is how old an attempt may be of which an order that can't be found says
// that it expired: PayPal doesn't say for how long it keeps those that were paid.
const longest = 30 * 24 * time.Hour

// expired reports whether an order that can't be found is one that nobody approved.
// A younger one may not be found yet.
func expired(a *payment.Attempt) bool {
	age := time.Since(a.Began)
	return !a.Began.IsZero() && age >= approvalTime && age < longest && a.ChargeID == "" && a.AuthorizationID == ""
}

func (g *Gateway) order(ctx context.Context, a *payment.Attempt) (*order, error) {
	if err := g.mine(a); err != nil {
		return nil, err
	}
	if a.PaymentID == "" {
		return nil, unsupported("payment_id", "is missing, and PayPal finds no order by our ids: prepare it again, with the same key")
	}
	id, err := segment("payment_id", a.PaymentID)
	if err != nil {
		return nil, err
	}
	o := new(order)
	if err := g.call(ctx, &request{op: "look up order", method: http.MethodGet, path: ordersPath + "/" + id}, o); err != nil {
		return nil, err
	}
	return o, nil
}

// Fence finds out whether the order is over: PayPal can't cancel one.
func (g *Gateway) Fence(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	p, err := g.LookUp(ctx, a)
	switch {
	case err != nil: // an order that isn't found yet may be captured yet
		return nil, err
	case p.State == payment.Prepared:
		return nil, unsupported("payment_id", "is of an order that is open, and PayPal can't cancel one; what isn't captured moves no money, and expires within hours")
	}
	return p, nil
}

func (g *Gateway) ended(a *payment.Attempt, reason string) *payment.Payment {
	return &payment.Payment{
		ID: a.PaymentID, ChargeID: a.ChargeID, AuthorizationID: a.AuthorizationID, State: payment.Ended, Reason: reason,
		Amount: inDollars(a.Order).Amount, Captured: none(a), Refunded: none(a), Live: !g.Sandbox, Reference: a.Reference(),
	}
}

func none(a *payment.Attempt) payment.Money {
	return payment.Money{Currency: inDollars(a.Order).Amount.Currency}
}

// payment is how an order stands.
func (g *Gateway) payment(a *payment.Attempt, o *order) (*payment.Payment, error) {
	if a.PaymentID != "" && o.ID != a.PaymentID {
		return nil, uncertain("the answer is about another order")
	}
	if !ids.MatchString(o.ID) || len(o.Units) == 0 {
		return nil, uncertain("the answer has no order")
	}
	amount, ok := o.Units[0].Amount.read()
	if !ok {
		return nil, uncertain("the order's amount can't be read")
	}
	p := &payment.Payment{
		ID: o.ID, ChargeID: a.ChargeID, AuthorizationID: a.AuthorizationID, Amount: amount,
		Captured: payment.Money{Currency: amount.Currency}, Refunded: payment.Money{Currency: amount.Currency},
		Live: !g.Sandbox, Reference: payment.ParseReference(o.Units[0].CustomID), Saved: o.saved(),
	}
	return p, g.stands(a, o, p)
}

// stands sets the state (Orders v2 specification, order_status).
func (g *Gateway) stands(a *payment.Attempt, o *order, p *payment.Payment) error {
	paid := o.Units[0].Payments
	switch o.Status {
	case "COMPLETED":
		return paid.into(p)
	case "VOIDED":
		if !paid.empty() {
			return paid.into(p)
		}
		p.State, p.Reason = payment.Ended, o.Status
	case "APPROVED":
		p.State = payment.Prepared
	case "CREATED", "SAVED":
		p.State = payment.Prepared
		if a.Method.ID == "" {
			p.Action = o.action()
		}
	case "PAYER_ACTION_REQUIRED":
		if a.Order.Presence == payment.MerchantInitiated {
			p.State, p.Decline = payment.Refused, payment.NewDecline(payment.AuthenticationFault, o.Status)
			return nil
		}
		p.State, p.Action = payment.Prepared, o.action()
	default:
		return uncertain("an order of status %q", name(o.Status))
	}
	if p.Action != nil && p.Action.RedirectURL == "" {
		return uncertain("the order has no link for the customer")
	}
	return nil
}

// action is what the customer must do.
func (o *order) action() *payment.NextAction {
	out := &payment.NextAction{Provider: provider, RedirectURL: o.Links.approval()}
	if !o.CreateTime.IsZero() {
		out.Expires = o.CreateTime.Add(approvalTime)
	}
	return out
}

// saved is the method that was kept.
func (o *order) saved() payment.Method {
	for kind, s := range o.Source {
		v := s.Attributes.Vault
		known := kind == provider || slices.Contains(kindsOfSaved, kind)
		if known && v.Status == "VAULTED" && vaultID.MatchString(v.ID) {
			return payment.Method{ID: saved{kind, v.ID}.methodID(), Customer: v.Customer.ID}
		}
	}
	return payment.Method{}
}
