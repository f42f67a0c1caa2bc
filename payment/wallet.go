package payment

import "context"

// Wallet is a Gateway that keeps payment methods for later.
type Wallet interface {
	// SetupPaymentMethod begins to save a method without a payment: the customer may have to act.
	SetupPaymentMethod(ctx context.Context, s *Setup) (*SetupResult, error)
	// Attach keeps a method for a customer.
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
