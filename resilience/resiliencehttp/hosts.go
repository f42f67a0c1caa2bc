package resiliencehttp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/smilefactory/integrations/resilience"
)

type group = resilience.Group[*host]

// host is a provider of a Group: where a request goes.
type host struct {
	name string
	url  *url.URL            // nil: where the request says
	made *resilience.Control // of the Transport below, where there is one
}

// Control shows that the host is made of the Transport below.
func (h *host) Control() *resilience.Control { return h.made }

// Name is the host's in events and errors.
func (h *host) Name() string { return h.name }

// hosts are the Groups, one for each origin. A Group for each, and not a key of
// one, since everything belongs to the host: the retry budget and a pause too.
type hosts struct {
	policy    resilience.Policy
	observers []resilience.Observer
	whole     *resilience.Control // the identity of all Groups
	made      *resilience.Control // that of the Transport below
	backed    map[origin]*group   // those with backups; never written to after New

	mu  sync.Mutex
	lru *simplelru.LRU[origin, *group]
}

func newHosts(p resilience.Policy, o []resilience.Observer, size int, backups [][]string, made *resilience.Control) (*hosts, error) {
	lru, err := simplelru.NewLRU[origin, *group](size, nil)
	if err != nil {
		return nil, err
	}
	h := &hosts{policy: p, observers: o, whole: &resilience.Control{}, made: made, backed: map[origin]*group{}, lru: lru}
	for _, origins := range backups {
		if err := h.back(origins); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// back makes the Group of an origin with its backups.
func (h *hosts) back(origins []string) error {
	if len(origins) < 2 {
		return errors.New("resiliencehttp: WithBackup needs at least one backup")
	}
	var urls []*url.URL
	for _, o := range origins {
		u, err := parseOrigin(o)
		if err != nil {
			return err
		}
		urls = append(urls, u)
	}
	for _, b := range urls[1:] {
		if urls[0].Scheme == "https" && b.Scheme != "https" && !isLoopback(b.Hostname()) {
			return fmt.Errorf("resiliencehttp: WithBackup: %s must be https, as its primary is: credentials would travel in the clear", b.Host)
		}
	}
	key := originOf(urls[0])
	if h.backed[key] != nil {
		return fmt.Errorf("resiliencehttp: WithBackup names %s twice", urls[0].Host)
	}
	g, err := h.newGroup(urls[0], urls[1:]...)
	h.backed[key] = g
	return err
}

func (h *hosts) newGroup(origin *url.URL, backups ...*url.URL) (*group, error) {
	p := h.policy
	if len(backups) == 0 { // the names that it may hold are of others
		p.Route, p.Weights = resilience.InOrder, nil
	}
	members := []resilience.Member[*host]{{Provider: &host{name: hostName(origin), made: h.made}}}
	for _, b := range backups {
		members = append(members, resilience.Member[*host]{Provider: &host{name: hostName(b), url: b, made: h.made}})
	}
	g, err := resilience.New(p, members, h.observers...)
	if err == nil {
		g.PartOf(h.whole)
	}
	return g, err
}

// group finds the Group of a URL, or makes it.
func (h *hosts) group(u *url.URL) (*group, error) {
	key := originOf(u)
	if g := h.backed[key]; g != nil {
		return g, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if g, ok := h.lru.Get(key); ok {
		return g, nil
	}
	g, err := h.newGroup(u)
	if err == nil {
		h.lru.Add(key, g)
	}
	return g, err
}

func (h *hosts) inspect() []resilience.Status {
	var all []resilience.Status
	for _, o := range slices.SortedFunc(maps.Keys(h.backed), origin.compare) {
		all = append(all, h.backed[o].Inspect()...)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.lru.Values() {
		all = append(all, g.Inspect()...)
	}
	return all
}

// parseOrigin takes a scheme and a host, with or without a port. The error doesn't
// quote it: it may hold a password.
func parseOrigin(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("resiliencehttp: an origin is a scheme and a host alone, such as https://api.example.com")
	}
	return u, nil
}

// origin is what hosts are told apart by (RFC 6454, 4).
type origin struct{ scheme, authority string }

func originOf(u *url.URL) origin { return origin{u.Scheme, authority(u)} }

func (o origin) compare(p origin) int {
	return cmp.Or(strings.Compare(o.scheme, p.scheme), strings.Compare(o.authority, p.authority))
}

// authority is the host in small letters, without the port that the scheme has
// anyway.
func authority(u *url.URL) string {
	if u.Scheme == "http" {
		return strings.TrimSuffix(strings.ToLower(u.Host), ":80")
	}
	return strings.TrimSuffix(strings.ToLower(u.Host), ":443")
}

// maxName is the longest name of a provider. Of a longer host the end is kept,
// which says more.
const maxName = 64

func hostName(u *url.URL) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, authority(u))
	return name[max(len(name)-maxName, 0):]
}

func isLoopback(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// rewrite sends a request, which is a clone, to the host. A Host header that
// isn't just the URL's own stays.
func (h *host) rewrite(req *http.Request) {
	if h.url == nil {
		return
	}
	if strings.EqualFold(req.Host, req.URL.Host) {
		req.Host = ""
	}
	req.URL.Scheme, req.URL.Host = h.url.Scheme, h.url.Host
}
