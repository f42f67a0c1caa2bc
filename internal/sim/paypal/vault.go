package paypal

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// setupTime is how long a setup token lives: 3 days (page "Save payment methods"; unverified).
const setupTime = 3 * 24 * time.Hour

// setupToken is a payment method that the buyer is to agree to.
type setupToken struct {
	id, customer, kind   string
	account              Account
	status               string // PAYER_ACTION_REQUIRED, APPROVED, VAULTED
	returnURL, cancelURL string
	outcome              Outcome
	created              time.Time
}

// paymentToken is a saved payment method.
type paymentToken struct {
	id, customer, kind string
	account            Account
	outcome            Outcome // how charging it ends
	order              int     // of creation, for lists
}

// walletShape is paypal_wallet_request of the Payment Method Tokens v3 specification, and venmo_request.
var walletShape = recordOf(map[string]shape{
	"description": {kind: aText, min: 1, max: 128}, "experience_context": experienceShape, "usage_type": upperName, "customer_type": upperName,
	"permit_multiple_payment_tokens": {kind: aBool}, "usage_pattern": upperName, "shipping": {},
})

// setupShape is setup_token_request. A card comes without its number: the buyer enters it on PayPal's page.
var setupShape = recordOf(map[string]shape{
	"customer": customer, "metadata": {},
	"payment_source": needed(recordOf(map[string]shape{
		"paypal": walletShape, "venmo": walletShape,
		"card": recordOf(map[string]shape{"experience_context": experienceShape, "verification_method": upperName, "number": {}, "expiry": {}, "security_code": {}, "name": {}, "billing_address": {}}),
	})),
})

// saveShape is payment_token_request. The specification's token type is BILLING_AGREEMENT alone, PayPal's guide (page
// "Save PayPal for purchase later") sends SETUP_TOKEN; only the latter is simulated.
var saveShape = recordOf(map[string]shape{
	"customer": customer, "metadata": {},
	"payment_source": needed(recordOf(map[string]shape{
		"token": needed(recordOf(map[string]shape{"id": needed(vaultID), "type": needed(enum("SETUP_TOKEN"))})),
	})),
})

// createSetupToken is setup-tokens.create of the Payment Method Tokens v3 specification.
func (s *Sim) createSetupToken(c *call) (answer, *problem) {
	kind, method, p := theOne(record(c.record(), "payment_source"))
	if p != nil {
		return answer{}, p
	}
	if method["number"] != nil || method["security_code"] != nil {
		return answer{}, issueAt("NOT_ENABLED_TO_VAULT_PAYMENT_SOURCE", "/payment_source/card")
	}
	context := record(method, "experience_context")
	t := &setupToken{
		id: newID(idAlphabet, 17), customer: text(record(c.record(), "customer"), "id"), kind: kind, account: c.account,
		status: payerActionRequired, returnURL: text(context, "return_url"), cancelURL: text(context, "cancel_url"), created: c.now,
	}
	if t.customer == "" {
		t.customer = newID(idAlphabet, 10)
	}
	s.setups[t.id] = t
	return answer{http.StatusCreated, t.json(c.base), func(c *call) (answer, *problem) {
		return answer{status: http.StatusOK, body: t.json(c.base)}, nil
	}}, nil
}

func (t *setupToken) json(base string) object {
	self := base + "/v3/vault/setup-tokens/" + t.id
	body := object{
		"id": t.id, "customer": object{"id": t.customer}, "status": t.status, "payment_source": object{t.kind: object{}},
		"links": []object{link(self, "self", "GET")},
	}
	switch t.status {
	case payerActionRequired:
		body["links"] = []object{link(base+agreePath+"?approval_session_id="+t.id, "approve", "GET"), link(self, "self", "GET")}
	default:
		body["payment_source"] = object{t.kind: savedInstrument(t.kind)}
		body["links"] = []object{link(self, "self", "GET"), link(base+"/v3/vault/payment-tokens", "confirm", "POST")}
	}
	return body
}

// getSetupToken is setup-tokens.get of the Payment Method Tokens v3 specification.
func (s *Sim) getSetupToken(c *call) (answer, *problem) {
	t, p := s.findSetup(c, c.id)
	if p != nil {
		return answer{}, p
	}
	return answer{status: http.StatusOK, body: t.json(c.base)}, nil
}

func (s *Sim) findSetup(c *call, id string) (*setupToken, *problem) {
	t, known := s.setups[id]
	if !known || !c.now.Before(t.created.Add(setupTime)) {
		return nil, notFound()
	}
	return t, owned(c, t.account)
}

// createPaymentToken is payment-tokens.create of the Payment Method Tokens v3 specification.
func (s *Sim) createPaymentToken(c *call) (answer, *problem) {
	setup, p := s.findSetup(c, text(at(c.record(), "payment_source", "token"), "id"))
	switch {
	case p != nil:
		return answer{}, p
	case setup.status == payerActionRequired: // Page of the error PAYER_ACTION_REQUIRED.
		return answer{}, issue("PAYER_ACTION_REQUIRED")
	case setup.status == "VAULTED": // That a setup token is good for one payment token is unverified.
		return answer{}, issueAt("TOKEN_EXPIRED", "/payment_source/token/id")
	}
	setup.status = "VAULTED"
	t := s.save(c.account, setup.kind, setup.customer, setup.outcome)
	return answer{http.StatusCreated, t.json(c.base), func(c *call) (answer, *problem) {
		return answer{status: http.StatusOK, body: t.json(c.base)}, nil
	}}, nil
}

func (s *Sim) save(account Account, kind, customer string, outcome Outcome) *paymentToken {
	if customer == "" {
		customer = newID(idAlphabet, 10)
	}
	t := &paymentToken{id: newID(idAlphabet, 17), customer: customer, kind: kind, account: account, outcome: outcome, order: len(s.vault)}
	s.vault[t.id] = t
	s.emit(account, "VAULT.PAYMENT-TOKEN.CREATED", "payment_token", t.id, t.json(s.base))
	return t
}

func (t *paymentToken) json(base string) object {
	self := base + "/v3/vault/payment-tokens/" + t.id
	return object{
		"id": t.id, "customer": object{"id": t.customer}, "payment_source": object{t.kind: savedInstrument(t.kind)},
		"links": []object{link(self, "self", "GET"), link(self, "delete", "DELETE")},
	}
}

// savedInstrument is what the vault shows of a payment method: a little less than an order.
func savedInstrument(kind string) object {
	body := instrument(kind)
	delete(body, "account_status")
	delete(body, "type")
	return body
}

func (s *Sim) findToken(c *call) (*paymentToken, *problem) {
	t, known := s.vault[c.id]
	if !known {
		return nil, notFound()
	}
	return t, owned(c, t.account)
}

// getPaymentToken is payment-tokens.get of the Payment Method Tokens v3 specification.
func (s *Sim) getPaymentToken(c *call) (answer, *problem) {
	t, p := s.findToken(c)
	if p != nil {
		return answer{}, p
	}
	return answer{status: http.StatusOK, body: t.json(c.base)}, nil
}

// deletePaymentToken is payment-tokens.delete of the Payment Method Tokens v3 specification, which has no 404.
func (s *Sim) deletePaymentToken(c *call) (answer, *problem) {
	t, p := s.findToken(c)
	if p != nil && p.status == http.StatusForbidden {
		return answer{}, p
	}
	if p == nil {
		delete(s.vault, t.id)
		s.emit(t.account, "VAULT.PAYMENT-TOKEN.DELETED", "payment_token", t.id, object{"id": t.id})
	}
	return answer{status: http.StatusNoContent}, nil
}

// listPaymentTokens is customer.payment-tokens.get of the Payment Method Tokens v3 specification.
func (s *Sim) listPaymentTokens(c *call) (answer, *problem) {
	query := c.r.URL.Query()
	owner := query.Get("customer_id")
	size, page := positive(query.Get("page_size"), 5), positive(query.Get("page"), 1)
	if owner == "" || size == 0 || page == 0 {
		return answer{}, refuse(http.StatusBadRequest, detail{Field: "customer_id", Location: "query", Issue: "MISSING_REQUIRED_PARAMETER", Description: descriptions["MISSING_REQUIRED_PARAMETER"]})
	}
	all := s.tokensOf(c.account, owner)
	shown := []object{}
	for i, t := range all {
		if i/size == page-1 {
			shown = append(shown, t.json(c.base))
		}
	}
	body := object{"customer": object{"id": owner}, "payment_tokens": shown, "links": pageLinks(c, query, page, (len(all)+size-1)/size)}
	if query.Get("total_required") == "true" {
		body["total_items"], body["total_pages"] = len(all), (len(all)+size-1)/size
	}
	return answer{status: http.StatusOK, body: body}, nil
}

func (s *Sim) tokensOf(account Account, owner string) []*paymentToken {
	var all []*paymentToken
	for _, t := range slices.Collect(maps.Values(s.vault)) {
		if t.customer == owner && t.account.ClientID == account.ClientID {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *paymentToken) int { return a.order - b.order })
	return all
}

// positive is 0 where the number isn't one.
func positive(s string, otherwise int) int {
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0
	}
	return n
}

func pageLinks(c *call, query url.Values, page, pages int) []object {
	to := func(n int, rel string) object {
		query.Set("page", strconv.Itoa(n))
		return link(c.base+"/v3/vault/payment-tokens?"+query.Encode(), rel, "GET")
	}
	links := []object{to(page, "self"), to(1, "first")}
	if page < pages {
		links = append(links, to(page+1, "next"))
	}
	return append(links, to(max(1, pages), "last"))
}
