package stripe

import "slices"

// account is docs.stripe.com/api/accounts/object, the part that says whether it can take payments.
type account struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	ChargesEnabled   bool              `json:"charges_enabled"`
	Country          string            `json:"country"`
	DefaultCurrency  string            `json:"default_currency"`
	DetailsSubmitted bool              `json:"details_submitted"`
	PayoutsEnabled   bool              `json:"payouts_enabled"`
	Capabilities     map[string]string `json:"capabilities"`
	Metadata         map[string]string `json:"metadata"`
	Type             string            `json:"type"`
}

var otherEndpoints = []endpoint{
	{method: "GET", path: "/v1/account", do: (*call).getAccount},
	{
		method: "GET", path: "/v1/events", do: (*call).listEvents,
		known: with(paging, spec{"type": text, "types": list, "created": created, "delivery_success": unsimulated}),
	},
	{method: "GET", path: "/v1/events/*", do: (*call).getEvent},
	{method: "GET", path: "/v1/balance_transactions/*", do: (*call).getBalanceTransaction},
}

func (c *call) getAccount() (any, *problem) {
	return account{
		ID: c.account, Object: "account", ChargesEnabled: true, Country: "US", DefaultCurrency: "usd", DetailsSubmitted: true,
		PayoutsEnabled: true, Capabilities: map[string]string{"card_payments": "active", "transfers": "active"}, Metadata: map[string]string{}, Type: "standard",
	}, nil
}

func (c *call) getEvent() (any, *problem) {
	e, ok := c.events.byID[c.path]
	if !ok {
		return nil, noSuch("event", c.path, "id")
	}
	return e, nil
}

func (c *call) listEvents() (any, *problem) {
	types := c.p.list("types")
	return listed(c, "/v1/events", &c.events, func(e *event) string { return e.ID }, func(e *event) bool {
		return c.within(e.Created) && c.wants("type", &e.Type) && (len(types) == 0 || slices.Contains(types, e.Type))
	})
}

func (c *call) getBalanceTransaction() (any, *problem) {
	t, ok := c.balance.byID[c.path]
	if !ok {
		return nil, noSuch("balance transaction", c.path, "id")
	}
	return t, nil
}
