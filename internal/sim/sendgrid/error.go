package sendgrid

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// problem is one entry of an error body. Field and help are null where there is none (Mail Send reference,
// ErrorResponse).
type problem struct {
	Message string  `json:"message"`
	Field   *string `json:"field"`
	Help    *string `json:"help"`
}

const helpPage = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message."

func refuse(status int, problems ...problem) sim.Reply {
	return sim.Reply{Status: status, Body: body(problems)}
}

func failure(status int, message string) sim.Reply {
	return refuse(status, problem{Message: message})
}

func body(problems []problem) string {
	out, _ := json.Marshal(map[string][]problem{"errors": problems}) // Strings alone can't fail.
	return string(out)
}

// Error is the step that answers status with SendGrid's error body, and does nothing.
func Error(status int, message string) sim.Step {
	return sim.Step{Status: status, Body: body([]problem{{Message: message}})}
}

// RateLimited is the step that answers 429 until reset, which SendGrid gives in whole Unix seconds (v3 API reference,
// Rate limits).
func RateLimited(reset time.Time) sim.Step {
	step := Error(http.StatusTooManyRequests, "too many requests")
	step.Header = http.Header{
		"X-Ratelimit-Limit":     {"600"},
		"X-Ratelimit-Remaining": {"0"},
		"X-Ratelimit-Reset":     {strconv.FormatInt(reset.Unix(), 10)},
	}
	return step
}
