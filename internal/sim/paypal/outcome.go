package paypal

import (
	"encoding/json"
)

// Outcome is how a charge ends. The zero value completes it.
type Outcome struct {
	// Issue refuses with 422 and this issue, such as INSTRUMENT_DECLINED, TRANSACTION_REFUSED or PAYER_ACTION_REQUIRED.
	Issue string
	// Status of the capture where it isn't COMPLETED: PENDING, DECLINED or FAILED. The order is COMPLETED all the same.
	// Of an authorization: PENDING, and DENIED for DECLINED and FAILED.
	Status string
	// Reason of PENDING (Payments v2 specification, capture_status_details); empty is PENDING_REVIEW.
	Reason string
	// Code is processor_response.response_code, such as 5120 for insufficient funds.
	Code string
}

// RefundOutcome is how a refund ends. The zero value completes it.
type RefundOutcome struct {
	Issue  string // refuses with 422, such as REFUND_FAILED_INSUFFICIENT_FUNDS
	Status string // PENDING: it completes or fails by [Sim.SettleRefund]; FAILED; CANCELLED
}

// NextCharge queues how the coming charges end, one each, whatever pays them.
func (s *Sim) NextCharge(outcomes ...Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextCharges = append(s.nextCharges, outcomes...)
}

// NextRefund queues how the coming refunds end, one each.
func (s *Sim) NextRefund(outcomes ...RefundOutcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextRefunds = append(s.nextRefunds, outcomes...)
}

// chargeOutcome is what was queued, or what the request's header asks for, or what the payment method does.
func (s *Sim) chargeOutcome(c *call, method Outcome) Outcome {
	if len(s.nextCharges) > 0 {
		next := s.nextCharges[0]
		s.nextCharges = s.nextCharges[1:]
		return next
	}
	if name := mockCode(c); name != "" {
		return Outcome{Issue: name}
	}
	return method
}

func (s *Sim) refundOutcome(c *call) RefundOutcome {
	if len(s.nextRefunds) > 0 {
		next := s.nextRefunds[0]
		s.nextRefunds = s.nextRefunds[1:]
		return next
	}
	return RefundOutcome{Issue: mockCode(c)}
}

// mockCode is the error that a caller asks for in the sandbox (PayPal's page "Simulate negative responses with request
// headers"). Only those that refuse a charge or a refund with 422 are simulated.
func mockCode(c *call) string {
	if c.account.Live {
		return ""
	}
	var header struct {
		Code string `json:"mock_application_codes"`
	}
	if json.Unmarshal([]byte(c.r.Header.Get("PayPal-Mock-Response")), &header) != nil {
		return ""
	}
	return header.Code
}
