package stripe

// customer is docs.stripe.com/api/customers/object.
type customer struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Address          any               `json:"address"`
	Balance          int64             `json:"balance"`
	Created          int64             `json:"created"`
	Currency         *string           `json:"currency"`
	DefaultSource    *string           `json:"default_source"`
	Delinquent       bool              `json:"delinquent"`
	Description      *string           `json:"description"`
	Discount         *string           `json:"discount"`
	Email            *string           `json:"email"`
	InvoiceSettings  invoiceSettings   `json:"invoice_settings"`
	Livemode         bool              `json:"livemode"`
	Metadata         map[string]string `json:"metadata"`
	Name             *string           `json:"name"`
	Phone            *string           `json:"phone"`
	PreferredLocales []string          `json:"preferred_locales"`
	Shipping         any               `json:"shipping"`
	TaxExempt        string            `json:"tax_exempt"`
}

type invoiceSettings struct {
	CustomFields         *string `json:"custom_fields"`
	DefaultPaymentMethod *string `json:"default_payment_method"`
	Footer               *string `json:"footer"`
	RenderingOptions     *string `json:"rendering_options"`
}

// deletedCustomer is what is left (docs.stripe.com/api/customers/delete).
type deletedCustomer struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

var describedCustomer = spec{
	"description": text, "email": text, "name": text, "phone": text, "metadata": metadata, "address": anything, "shipping": anything,
	"preferred_locales": list, "invoice_settings": object(spec{
		"default_payment_method": text, "custom_fields": unsimulated, "footer": unsimulated, "rendering_options": unsimulated,
	}),
	"balance": unsimulated, "coupon": unsimulated, "source": unsimulated, "default_source": unsimulated, "tax": unsimulated,
	"tax_exempt": unsimulated, "cash_balance": unsimulated, "promotion_code": unsimulated, "invoice_prefix": unsimulated,
}

var customerEndpoints = []endpoint{
	{
		method: "POST", path: "/v1/customers", do: (*call).createCustomer,
		known: with(describedCustomer, spec{"payment_method": id, "test_clock": unsimulated, "tax_id_data": unsimulated}),
	},
	{method: "GET", path: "/v1/customers", do: (*call).listCustomers, known: with(paging, spec{"email": text, "created": created})},
	{method: "GET", path: "/v1/customers/*", do: (*call).getCustomer},
	{method: "POST", path: "/v1/customers/*", do: (*call).updateCustomer, known: describedCustomer},
	{method: "DELETE", path: "/v1/customers/*", do: (*call).deleteCustomer},
}

func (c *call) createCustomer() (any, *problem) {
	cu := &customer{
		ID: newID("cus"), Object: "customer", Created: c.now, Livemode: c.live, PreferredLocales: []string{}, TaxExempt: "none",
	}
	c.customers.put(cu.ID, cu)
	if p := c.describeCustomer(cu); p != nil {
		c.customers.drop(cu.ID)
		return nil, p
	}
	c.emit("customer.created", cu)
	return cu, nil
}

func (s *shelf[T]) drop(id string) {
	delete(s.byID, id)
	for i, known := range s.ids {
		if known == id {
			s.ids = append(s.ids[:i:i], s.ids[i+1:]...)
			return
		}
	}
}

func (c *call) describeCustomer(cu *customer) *problem {
	if c.p.has("payment_method") {
		c.path, c.p["customer"] = c.p.text("payment_method"), cu.ID
		if _, p := c.attachMethod(); p != nil {
			return p
		}
	}
	if p := c.setDefault(cu); p != nil {
		return p
	}
	for name, field := range map[string]**string{
		"description": &cu.Description, "email": &cu.Email, "name": &cu.Name, "phone": &cu.Phone,
	} {
		if c.p.has(name) {
			*field = c.p.optional(name)
		}
	}
	if c.p.has("address") {
		cu.Address = c.p.object("address").plain()
	}
	if c.p.has("shipping") {
		cu.Shipping = c.p.object("shipping").plain()
	}
	if c.p.has("preferred_locales") {
		cu.PreferredLocales = c.p.list("preferred_locales")
	}
	cu.Metadata = merge(cu.Metadata, c.p)
	return nil
}

// setDefault: the payment method must be attached to the customer (docs.stripe.com/api/customers/update,
// invoice_settings.default_payment_method).
func (c *call) setDefault(cu *customer) *problem {
	settings := c.p.object("invoice_settings")
	if !settings.has("default_payment_method") {
		return nil
	}
	id := settings.optional("default_payment_method")
	if id != nil {
		pm, ok := c.methods.byID[*id]
		if !ok || pm.Customer == nil || *pm.Customer != cu.ID {
			return refused("resource_missing", "invoice_settings[default_payment_method]", "No such PaymentMethod: '%s'; the PaymentMethod must be attached to the customer.", *id)
		}
	}
	cu.InvoiceSettings.DefaultPaymentMethod = id
	return nil
}

func (c *call) customer() (*customer, *problem) {
	cu, ok := c.customers.byID[c.path]
	if !ok {
		return nil, noSuch("customer", c.path, "id")
	}
	return cu, nil
}

// getCustomer also shows one that was deleted (docs.stripe.com/api/customers/retrieve).
func (c *call) getCustomer() (any, *problem) {
	if gone, ok := c.gone[c.path]; ok {
		return gone, nil
	}
	return result(c.customer())
}

func (c *call) updateCustomer() (any, *problem) {
	cu, p := c.customer()
	if p != nil {
		return nil, p
	}
	if p := c.describeCustomer(cu); p != nil {
		return nil, p
	}
	c.emit("customer.updated", cu)
	return cu, nil
}

func (c *call) deleteCustomer() (any, *problem) {
	cu, p := c.customer()
	if p != nil {
		return nil, p
	}
	for _, pm := range c.methods.byID {
		if pm.Customer != nil && *pm.Customer == cu.ID {
			pm.Customer, pm.detached = nil, true
		}
	}
	c.customers.drop(cu.ID)
	gone := &deletedCustomer{ID: cu.ID, Object: "customer", Deleted: true}
	if c.gone == nil {
		c.gone = map[string]*deletedCustomer{}
	}
	c.gone[cu.ID] = gone
	c.emit("customer.deleted", cu)
	return gone, nil
}

func (c *call) listCustomers() (any, *problem) {
	return listed(c, "/v1/customers", &c.customers, func(cu *customer) string { return cu.ID }, func(cu *customer) bool {
		return c.within(cu.Created) && c.wants("email", cu.Email)
	})
}
