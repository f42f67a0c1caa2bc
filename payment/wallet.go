package payment

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// Wallet is a Gateway that keeps payment methods for later.
type Wallet interface {
	// SetupPaymentMethod begins to save a method without a payment: the customer may have to act.
	SetupPaymentMethod(ctx context.Context, s *Setup) (*SetupResult, error)
	// Attach keeps a method for a customer; where the provider makes customers of
	// methods, that may be empty.
	Attach(ctx context.Context, customer, method string) (*SavedMethod, error)
	// SavedMethods lists what is kept for a customer.
	SavedMethods(ctx context.Context, customer string) ([]SavedMethod, error)
	// Detach forgets a method. One that isn't kept is fault.NotFound.
	Detach(ctx context.Context, customer, method string) error
	// SetDefault makes a kept method the customer's usual one.
	SetDefault(ctx context.Context, customer, method string) error
}

// Setup asks for a method to be saved.
type Setup struct {
	// ID is the caller's, as an Order's: the same twice is one.
	ID string
	// User is as in [Order].
	User string
	// Customer is the provider's id of the customer; empty makes one.
	Customer string
	// Method is the provider's one-time token of what is to be saved; where it is
	// empty the provider's form asks the customer.
	Method string
	// OffSession: it is to be used for merchant initiated payments too.
	OffSession bool
	// ReturnURL and CancelURL are as in [Order].
	ReturnURL, CancelURL string
	// Key is the idempotency key, which the Client makes.
	Key string
}

// SetupResult is how far it has come.
type SetupResult struct {
	// ID is the provider's.
	ID string
	// Customer is the provider's id of the customer.
	Customer string
	// Method is set once it is saved; Action is what the customer must do before.
	Method *SavedMethod
	Action *NextAction
	// Decline says why it was not saved.
	Decline *Decline
}

// SavedMethod is a payment method that is kept for a customer, with what may be
// shown of it.
type SavedMethod struct {
	Method
	// Type is the provider's word: "card", "paypal".
	Type string
	// Brand, Last4 and the expiry are a card's.
	Brand, Last4      string
	ExpMonth, ExpYear int
	Default, Reusable bool
}

// Wallet is the wallet of the provider of that path, with the Client's policy
// around it. Customers and methods belong to one provider: nothing fails over.
// One without a wallet is fault.Unsupported, an unknown one fault.NotFound.
func (c *Client) Wallet(provider string) (Wallet, error) {
	switch g := c.leaf(provider).(type) {
	case nil:
		return nil, fault.New(fault.NotFound, errors.New("payment: no such provider"))
	case Wallet:
		return wallet{c, provider, g}, nil
	}
	return nil, errCant
}

type wallet struct {
	c        *Client
	provider string
	wallet   Wallet
}

func walletCall[R any](ctx context.Context, w wallet, op resilience.Op, call func(context.Context) (R, error)) (R, error) {
	return resilience.Do(resilience.Pin(ctx, w.provider), w.c.gateways, op, func(ctx context.Context, _ Gateway) (R, error) { return call(ctx) })
}

func (w wallet) SetupPaymentMethod(ctx context.Context, s *Setup) (*SetupResult, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	tenant := resilience.Tenant(ctx)
	if !isID(tenant, maxTenant) {
		return nil, invalid("tenant", fmt.Sprintf("must be at most %d of [A-Za-z0-9_-]", maxTenant))
	}
	asked := *s
	a := Attempt{Tenant: tenant, Provider: w.provider, Identity: w.c.identity(w.provider), Order: &Order{ID: s.ID}}
	asked.Key = a.Key("setup")
	return walletCall(ctx, w, opWallet, func(ctx context.Context) (*SetupResult, error) {
		return w.wallet.SetupPaymentMethod(ctx, &asked)
	})
}

func (w wallet) Attach(ctx context.Context, customer, method string) (*SavedMethod, error) {
	if err := checkIDs(cmp.Or(customer, "new"), method); err != nil {
		return nil, err
	}
	return walletCall(ctx, w, opSaved, func(ctx context.Context) (*SavedMethod, error) { return w.wallet.Attach(ctx, customer, method) })
}

func (w wallet) SavedMethods(ctx context.Context, customer string) ([]SavedMethod, error) {
	if err := checkIDs(customer, customer); err != nil {
		return nil, err
	}
	return walletCall(ctx, w, opSaved, func(ctx context.Context) ([]SavedMethod, error) { return w.wallet.SavedMethods(ctx, customer) })
}

func (w wallet) Detach(ctx context.Context, customer, method string) error {
	if err := checkIDs(customer, method); err != nil {
		return err
	}
	_, err := walletCall(ctx, w, opWallet, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, w.wallet.Detach(ctx, customer, method)
	})
	return err
}

func (w wallet) SetDefault(ctx context.Context, customer, method string) error {
	if err := checkIDs(customer, method); err != nil {
		return err
	}
	_, err := walletCall(ctx, w, opSaved, func(ctx context.Context) (struct{}, error) { // the same however often
		return struct{}{}, w.wallet.SetDefault(ctx, customer, method)
	})
	return err
}

func checkIDs(customer, method string) error {
	var p problems
	p.require(isProviderID(customer), "customer", noProviderID)
	p.require(isProviderID(method), "method", noProviderID)
	return p.fault()
}
