package paypal

import (
	"fmt"
	"slices"
)

// SettleCapture ends a pending capture: COMPLETED moves the money, DECLINED or FAILED doesn't.
func (s *Sim) SettleCapture(id, status string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, known := s.captures[id]
	if !known || c.state != "PENDING" || !slices.Contains([]string{completed, "DECLINED", "FAILED"}, status) {
		return fmt.Errorf("paypal: settle capture %s as %s: no such pending capture, or no such end", id, status)
	}
	now := s.now()
	c.state, c.reason, c.updated = status, "", now
	if status == completed {
		s.settled(c, now)
		return nil
	}
	delete(s.invoices, invoiceKey(c.unit, c.invoice))
	s.emitCapture(c, "PAYMENT.CAPTURE.DENIED")
	return nil
}

// SettleRefund ends a pending refund: COMPLETED moves the money, FAILED or CANCELLED gives the amount back to the
// capture, whose status goes back with it.
func (s *Sim) SettleRefund(id, status string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.refunds[id]
	if !known || r.status != "PENDING" || !slices.Contains([]string{completed, "FAILED", "CANCELLED"}, status) {
		return fmt.Errorf("paypal: settle refund %s as %s: no such pending refund, or no such end", id, status)
	}
	now := s.now()
	r.status, r.updated, r.capture.updated = status, now, now
	s.refundSettled(r, now)
	return nil
}

// SettleAuthorization ends a pending authorization: CREATED holds the money, DENIED doesn't.
func (s *Sim) SettleAuthorization(id, status string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, known := s.authorizations[id]
	if !known || a.state != "PENDING" || status != created && status != "DENIED" {
		return fmt.Errorf("paypal: settle authorization %s as %s: no such pending authorization, or no such end", id, status)
	}
	a.state, a.updated = status, s.now()
	if status == created {
		s.emitAuthorization(a, "PAYMENT.AUTHORIZATION.CREATED")
	}
	return nil
}

// SaveMethod puts a payment method (paypal, venmo or card) into the vault of the account with clientID, as if the buyer
// had agreed; outcome is how charging it ends. It returns the vault id.
func (s *Sim) SaveMethod(clientID, customerID, kind string, outcome Outcome) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	account, known := s.accounts[clientID]
	if !known || !slices.Contains([]string{"paypal", "venmo", "card"}, kind) {
		return "", fmt.Errorf("paypal: save a %s for client %s: no such method, or no such client", kind, clientID)
	}
	return s.save(account, kind, customerID, outcome).id, nil
}

// SetMethod changes how charging a saved payment method ends.
func (s *Sim) SetMethod(vaultID string, outcome Outcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, known := s.vault[vaultID]
	if !known {
		return fmt.Errorf("paypal: set method %s: no such payment token", vaultID)
	}
	t.outcome = outcome
	return nil
}
