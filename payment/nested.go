package payment

import (
	"context"

	"github.com/smilefactory/integrations/resilience"
)

// A Client without a journal is a Gateway, for another Client that has one. Its
// provider was chosen by the outer Client, which pins every call.
var _ interface {
	Gateway
	Capturer
	Refunder
} = (*Client)(nil)

// CanTake asks the provider that the attempt is for, else the first.
func (c *Client) CanTake(a *Attempt) error {
	g, rest := c.gateway(a.Provider)
	if g == nil {
		g, rest = c.gateway(c.names()[0])
	}
	inner := *a
	inner.Provider = rest
	return g.CanTake(&inner)
}

// leaf is the Gateway at the end of a path, nil where there is none.
func (c *Client) leaf(path string) Gateway {
	g, rest := c.gateway(path)
	if inner, ok := g.(*Client); ok {
		return inner.leaf(rest)
	}
	return g
}

// identity is the account of the provider at the end of a path.
func (c *Client) identity(path string) Identity {
	if i, ok := c.leaf(path).(Identifier); ok {
		return i.Identity()
	}
	return Identity{}
}

// Prepare prepares at the pinned provider, see [Gateway].
func (c *Client) Prepare(ctx context.Context, a *Attempt) (*Payment, error) {
	return resilience.Call(ctx, c.gateways, opPrepare, Gateway.Prepare, a)
}

// Commit commits at the pinned provider, see [Gateway].
func (c *Client) Commit(ctx context.Context, a *Attempt) (*Payment, error) {
	return resilience.Call(ctx, c.gateways, c.moving(opCommit), Gateway.Commit, a)
}

// LookUp asks the pinned provider, see [Gateway].
func (c *Client) LookUp(ctx context.Context, a *Attempt) (*Payment, error) {
	return resilience.Call(ctx, c.gateways, opLookUp, Gateway.LookUp, a)
}

// Fence fences at the pinned provider, see [Gateway].
func (c *Client) Fence(ctx context.Context, a *Attempt) (*Payment, error) {
	return resilience.Call(ctx, c.gateways, opFence, Gateway.Fence, a)
}

// CaptureAttempt captures at the pinned provider, see [Capturer].
func (c *Client) CaptureAttempt(ctx context.Context, a *Attempt, amount Money) (*Payment, error) {
	return resilience.Call(ctx, c.gateways, c.moving(opCapture), capture(amount), a)
}

// VoidAttempt voids at the pinned provider, see [Capturer].
func (c *Client) VoidAttempt(ctx context.Context, a *Attempt) (*Payment, error) {
	return resilience.Call(ctx, c.gateways, c.moving(opVoid), void, a)
}

// RefundAttempt refunds at the pinned provider, see [Refunder].
func (c *Client) RefundAttempt(ctx context.Context, r *Refunding) (*Refund, error) {
	return resilience.Call(ctx, c.gateways, c.moving(opRefund), refund, r)
}

// LookUpRefund asks the pinned provider, see [Refunder].
func (c *Client) LookUpRefund(ctx context.Context, r *Refunding) (*Refund, error) {
	return resilience.Call(ctx, c.gateways, opRefunded, lookUpRefund, r)
}
