package stripe

import (
	"context"
	"errors"
	"net/http"
	"strings"

	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// method makes a payment method of a one-time token; anything else is one already.
func (g Gateway) method(ctx context.Context, id string, r request) (string, error) {
	if !isToken(id) {
		return id, nil
	}
	params := &sdk.PaymentMethodParams{
		Type: new(string(sdk.PaymentMethodTypeCard)), Card: &sdk.PaymentMethodCardParams{Token: &id},
	}
	r.private = append(r.private, id)
	var pm *sdk.PaymentMethod
	_, err := g.do(ctx, r, func(c api) (err error) {
		params.Params = c.params
		pm, err = c.methods().New(params)
		return first(err, func() error { return wanted(pm.Object, "payment_method", pm.ID, "") })
	})
	if err != nil {
		return "", err
	}
	return pm.ID, nil
}

// SetupPaymentMethod makes a customer where there is none, and a SetupIntent, which
// is confirmed at once where the method is known.
func (g Gateway) SetupPaymentMethod(ctx context.Context, s *payment.Setup) (*payment.SetupResult, error) {
	if err := checkSetup(s); err != nil {
		return nil, err
	}
	owner, err := g.customer(ctx, s)
	if err != nil {
		return nil, err
	}
	method, err := g.method(ctx, s.Method, setupStep(s, ":method"))
	if err != nil {
		return notSaved(owner, err)
	}
	params := setup(s, owner, method)
	var si *sdk.SetupIntent
	ans, err := g.do(ctx, setupStep(s, ""), func(c api) (err error) {
		params.Params = c.params
		si, err = c.setups().New(params)
		return first(err, func() error { return wanted(si.Object, "setup_intent", si.ID, "") })
	})
	if err != nil {
		return notSaved(owner, err)
	}
	if ans.replayed() {
		if si, err = g.setupIntent(ctx, si.ID); err != nil {
			return nil, doubtful(err)
		}
	}
	return savedBy(owner, si), nil
}

func checkSetup(s *payment.Setup) error {
	switch {
	case s.Key == "":
		return fault.New(fault.Invalid, &payment.FieldError{Field: "key", Problem: "is required"})
	case s.Method != "" && !payable(s.Method):
		return fault.New(fault.Invalid, &payment.FieldError{Field: "method", Problem: notPayable})
	case s.Customer != "" && !strings.HasPrefix(s.Customer, "cus_"):
		return fault.New(fault.Invalid, &payment.FieldError{Field: "customer", Problem: "isn't the id of a customer of Stripe's, cus_…"})
	}
	return nil
}

func setupStep(s *payment.Setup, step string) request {
	return request{write: true, key: s.Key + step, private: []string{s.ReturnURL, s.CancelURL}}
}

// customer is the customer, who is made where there is none.
func (g Gateway) customer(ctx context.Context, s *payment.Setup) (string, error) {
	if s.Customer != "" {
		return s.Customer, nil
	}
	params := &sdk.CustomerParams{}
	if s.User != "" {
		params.Metadata = map[string]string{userKey: s.User}
	}
	var made *sdk.Customer
	_, err := g.do(ctx, setupStep(s, ":customer"), func(c api) (err error) {
		params.Params = c.params
		made, err = c.customers().New(params)
		return first(err, func() error { return wanted(made.Object, "customer", made.ID, "") })
	})
	if err != nil {
		return "", err
	}
	return made.ID, nil
}

// setup are the parameters of a SetupIntent (API reference, "Create a SetupIntent").
func setup(s *payment.Setup, owner, method string) *sdk.SetupIntentParams {
	usage := sdk.SetupIntentUsageOnSession
	if s.OffSession {
		usage = sdk.SetupIntentUsageOffSession
	}
	p := &sdk.SetupIntentParams{
		Customer: &owner, PaymentMethod: some(method), Usage: new(string(usage)),
		AutomaticPaymentMethods: &sdk.SetupIntentAutomaticPaymentMethodsParams{Enabled: new(true), AllowRedirects: redirects(s.ReturnURL)},
		Metadata:                map[string]string{"setup_id": s.ID},
		Expand:                  expand("payment_method"),
	}
	if s.User != "" {
		p.Metadata[userKey] = s.User
	}
	if method != "" {
		p.Confirm, p.ReturnURL = new(true), some(s.ReturnURL)
	}
	return p
}

func (g Gateway) setupIntent(ctx context.Context, id string) (*sdk.SetupIntent, error) {
	params := &sdk.SetupIntentParams{Expand: expand("payment_method")}
	var si *sdk.SetupIntent
	_, err := g.do(ctx, request{}, func(c api) (err error) {
		params.Params = c.params
		si, err = c.setups().Get(id, params)
		return first(err, func() error { return wanted(si.Object, "setup_intent", si.ID, id) })
	})
	return si, err
}

// savedBy is what has become of a SetupIntent (docs.stripe.com/payments/setupintents/lifecycle).
func savedBy(owner string, si *sdk.SetupIntent) *payment.SetupResult {
	out := &payment.SetupResult{ID: si.ID, Customer: owner}
	switch si.Status {
	case sdk.SetupIntentStatusSucceeded:
		if si.PaymentMethod != nil {
			out.Method = shown(si.PaymentMethod)
		}
	case sdk.SetupIntentStatusRequiresAction:
		url := ""
		if n := si.NextAction; n != nil && n.RedirectToURL != nil {
			url = n.RedirectToURL.URL
		}
		out.Action = action(si.ClientSecret, url)
	case sdk.SetupIntentStatusRequiresPaymentMethod, sdk.SetupIntentStatusRequiresConfirmation:
		if si.LastSetupError != nil {
			out.Decline = declined(si.LastSetupError)
		} else {
			out.Action = action(si.ClientSecret, "")
		}
	case sdk.SetupIntentStatusCanceled:
		out.Decline = payment.NewDecline(payment.CustomerGaveUp, string(si.CancellationReason))
	case sdk.SetupIntentStatusProcessing: // neither saved nor refused yet
	}
	return out
}

// notSaved is a decline, where the error is one.
func notSaved(owner string, err error) (*payment.SetupResult, error) {
	said, ok := errors.AsType[*Error](err)
	if !ok || said.decline == nil {
		return nil, err
	}
	return &payment.SetupResult{ID: said.setupID, Customer: owner, Decline: said.decline}, nil
}

// get retrieves a payment method; fault.NotFound where there is none.
func (g Gateway) get(ctx context.Context, id string) (*sdk.PaymentMethod, error) {
	params := &sdk.PaymentMethodParams{}
	var pm *sdk.PaymentMethod
	_, err := g.do(ctx, request{}, func(c api) (err error) {
		params.Params = c.params
		pm, err = c.methods().Get(id, params)
		return first(err, func() error { return wanted(pm.Object, "payment_method", pm.ID, "") })
	})
	return pm, err
}

// Attach keeps a method for a customer. One that is kept already for him is no
// error, for another one fault.Conflict, one that the bank declines fault.Rejected.
func (g Gateway) Attach(ctx context.Context, customer, method string) (*payment.SavedMethod, error) {
	if !payable(method) {
		return nil, fault.New(fault.Invalid, &payment.FieldError{Field: "method", Problem: notPayable})
	}
	method, err := g.method(ctx, method, request{write: true})
	if err != nil {
		return nil, err
	}
	params := &sdk.PaymentMethodAttachParams{Customer: &customer}
	var pm *sdk.PaymentMethod
	_, err = g.do(ctx, request{write: true}, func(c api) (err error) {
		params.Params = c.params
		pm, err = c.methods().Attach(method, params)
		return first(err, func() error { return wanted(pm.Object, "payment_method", pm.ID, "") })
	})
	if err == nil {
		return shown(pm), nil
	}
	if said, ok := errors.AsType[*Error](err); ok && said.Status == http.StatusBadRequest {
		return g.attached(ctx, customer, method, err)
	}
	return nil, err
}

// attached says whether an attachment failed because there was one already: Stripe
// has no code of its own for that.
func (g Gateway) attached(ctx context.Context, customer, method string, cause error) (*payment.SavedMethod, error) {
	pm, err := g.get(ctx, method)
	switch {
	case err != nil, pm.Customer == nil:
		return nil, cause
	case pm.Customer.ID != customer:
		return nil, fault.New(fault.Conflict, errors.New("stripe: the method is another customer's"))
	}
	return shown(pm), nil
}

// SavedMethods lists what is kept for a customer, newest first, at most a thousand.
func (g Gateway) SavedMethods(ctx context.Context, customer string) ([]payment.SavedMethod, error) {
	usual, err := g.usual(ctx, customer)
	if err != nil {
		return nil, err
	}
	var out []payment.SavedMethod
	_, err = g.do(ctx, request{}, func(c api) error {
		params := &sdk.CustomerListPaymentMethodsParams{ListParams: c.pages(), Customer: &customer}
		all := c.customers().ListPaymentMethods(params)
		for len(out) < maxFind && all.Next() {
			m := shown(all.PaymentMethod())
			m.Default = m.ID == usual
			out = append(out, *m)
		}
		return all.Err()
	})
	return out, err
}

// usual is the customer's default method, empty where there is none.
func (g Gateway) usual(ctx context.Context, customer string) (string, error) {
	params := &sdk.CustomerParams{}
	var who *sdk.Customer
	_, err := g.do(ctx, request{}, func(c api) (err error) {
		params.Params = c.params
		who, err = c.customers().Get(customer, params)
		return first(err, func() error { return wanted(who.Object, "customer", who.ID, "") })
	})
	switch {
	case err != nil:
		return "", err
	case who.Deleted:
		return "", fault.New(fault.NotFound, errors.New("stripe: the customer was deleted"))
	case who.InvoiceSettings == nil || who.InvoiceSettings.DefaultPaymentMethod == nil:
		return "", nil
	}
	return who.InvoiceSettings.DefaultPaymentMethod.ID, nil
}

// Detach forgets a method of a customer's. Stripe never attaches it again.
func (g Gateway) Detach(ctx context.Context, customer, method string) error {
	if err := g.owned(ctx, customer, method); err != nil {
		return err
	}
	params := &sdk.PaymentMethodDetachParams{}
	_, err := g.do(ctx, request{write: true}, func(c api) error {
		params.Params = c.params
		pm, err := c.methods().Detach(method, params)
		return first(err, func() error { return wanted(pm.Object, "payment_method", pm.ID, "") })
	})
	return err
}

// SetDefault makes a kept method the customer's usual one
// (invoice_settings.default_payment_method).
func (g Gateway) SetDefault(ctx context.Context, customer, method string) error {
	if err := g.owned(ctx, customer, method); err != nil {
		return err
	}
	params := &sdk.CustomerParams{InvoiceSettings: &sdk.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &method}}
	_, err := g.do(ctx, request{write: true}, func(c api) error {
		params.Params = c.params
		who, err := c.customers().Update(customer, params)
		return first(err, func() error { return wanted(who.Object, "customer", who.ID, "") })
	})
	return err
}

// owned is fault.NotFound where the method isn't kept for the customer.
func (g Gateway) owned(ctx context.Context, customer, method string) error {
	pm, err := g.get(ctx, method)
	if err != nil {
		return err
	}
	if pm.Customer == nil || pm.Customer.ID != customer {
		return fault.New(fault.NotFound, errors.New("stripe: the method isn't kept for this customer"))
	}
	return nil
}

func shown(pm *sdk.PaymentMethod) *payment.SavedMethod {
	out := &payment.SavedMethod{Method: payment.Method{ID: pm.ID}, Type: string(pm.Type)}
	if pm.Customer != nil {
		out.Customer, out.Reusable = pm.Customer.ID, true
	}
	if c := pm.Card; c != nil {
		out.Brand, out.Last4, out.ExpMonth, out.ExpYear = string(c.Brand), c.Last4, int(c.ExpMonth), int(c.ExpYear)
	}
	return out
}
