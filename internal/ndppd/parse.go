// Package ndppd reads the configuration of ndppd, the NDP proxy daemon, as far as
// v6net can do what it says.
package ndppd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/v6net/v6net/ndproxy"
)

// A Rule is a prefix that an interface answers for as a whole.
type Rule struct {
	Interface string
	Prefix    netip.Prefix
}

// An Error is a line that v6net cannot follow.
type Error struct {
	Line   int
	Text   string // the word or words in question
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s: %s", e.Line, e.Text, e.Reason) }

// Parse reads a configuration: its rules, and all that is wrong with it, joined.
// Times and tries, which ndppd needs for rules that ask on another interface, are
// accepted and have no meaning here.
func Parse(r io.Reader) ([]Rule, error) {
	words, err := split(r)
	if err != nil {
		return nil, err
	}
	p := parser{words: words}
	for p.more() {
		p.top()
	}
	if len(p.rules) == 0 && len(p.errs) == 0 {
		p.errs = append(p.errs, errors.New("no rule: nothing would be answered"))
	}
	return p.rules, errors.Join(p.errs...)
}

type word struct {
	text string
	line int
}

// split makes words of the text; braces and ends of lines are words of their own.
func split(r io.Reader) (words []word, err error) {
	lines := bufio.NewScanner(r)
	inComment := false
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		for {
			if inComment {
				_, after, ends := strings.Cut(text, "*/")
				if !ends {
					text = ""
					break
				}
				text, inComment = after, false
			}
			before, after, begins := strings.Cut(text, "/*")
			if !begins {
				break
			}
			_, tail, ends := strings.Cut(after, "*/")
			if !ends {
				text, inComment = before, true
				break
			}
			text = before + " " + tail
		}
		for _, mark := range []string{"#", "//"} {
			text, _, _ = strings.Cut(text, mark)
		}
		text = strings.NewReplacer("{", " { ", "}", " } ", ";", " \n ").Replace(text)
		for _, part := range strings.Split(text, "\n") {
			for _, w := range strings.Fields(part) {
				words = append(words, word{unquoted(w), n})
			}
			words = append(words, word{"\n", n})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read ndppd's configuration: %w", err)
	}
	return words, nil
}

// unquoted is a word without the quotes that ndppd takes off, too.
func unquoted(w string) string {
	for _, quote := range []string{`"`, "'"} {
		if len(w) > 1 && strings.HasPrefix(w, quote) && strings.HasSuffix(w, quote) {
			return w[1 : len(w)-1]
		}
	}
	return w
}

type parser struct {
	words []word
	rules []Rule
	errs  []error
}

// more skips empty lines.
func (p *parser) more() bool {
	for len(p.words) > 0 && p.words[0].text == "\n" {
		p.words = p.words[1:]
	}
	return len(p.words) > 0
}

func (p *parser) next() word {
	if len(p.words) == 0 {
		return word{}
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// value is the rest of a line.
func (p *parser) value() string {
	var s []string
	for len(p.words) > 0 && p.words[0].text != "\n" && p.words[0].text != "}" {
		s = append(s, p.next().text)
	}
	return strings.Join(s, " ")
}

func (p *parser) fail(w word, text, reason string) {
	p.errs = append(p.errs, &Error{w.line, strings.TrimSpace(text), reason})
}

// header reads the argument of a block and its opening brace.
func (p *parser) header(kind word) (argument string, ok bool) {
	for len(p.words) > 0 && p.words[0].text != "{" && p.words[0].text != "\n" && p.words[0].text != "}" {
		argument = strings.TrimSpace(argument + " " + p.next().text)
	}
	if p.more() && p.words[0].text == "{" {
		p.next()
		return argument, true
	}
	p.fail(kind, kind.text+" "+argument, "an opening brace must follow")
	return argument, false
}

// block calls f for every line's first word up to the closing brace.
func (p *parser) block(kind word, argument string, f func(word)) {
	for p.more() {
		w := p.next()
		if w.text == "}" {
			return
		}
		f(w)
	}
	p.fail(kind, kind.text+" "+argument, "no closing brace")
}

// neutral are settings of no meaning where nothing is asked on another interface.
var neutral = map[string]bool{
	"route-ttl": true, "address-ttl": true, "timeout": true, "ttl": true, "keepalive": true, "retries": true, "deadtime": true, "valid-ttl": true,
	"invalid-ttl": true, "renew": true, "retrans-limit": true, "retrans-time": true,
}

func (p *parser) top() {
	w := p.next()
	switch {
	case neutral[w.text]:
		p.value()
	case w.text == "proxy":
		if link, ok := p.header(w); ok {
			p.block(w, link, func(in word) { p.inProxy(link, in) })
		}
	default:
		p.fail(w, w.text+" "+p.value(), "unknown setting; allowed are proxy, route-ttl and address-ttl")
	}
}

func (p *parser) inProxy(link string, w word) {
	switch {
	case neutral[w.text]:
		p.value()
	case w.text == "router":
		if v := p.value(); v != "yes" && v != "true" {
			p.fail(w, "router "+v, "v6net always says that it is a router, which who proxies is (RFC 4861 §7.2.8)")
		}
	case w.text == "autowire" || w.text == "promiscuous":
		if v := p.value(); v != "no" && v != "false" {
			p.fail(w, w.text+" "+v, "v6net adds no routes and needs no promiscuous interface; remove it")
		}
	case w.text == "rule":
		if prefix, ok := p.header(w); ok {
			p.rule(link, w, prefix)
		}
	default:
		p.fail(w, w.text+" "+p.value(), "unknown setting of a proxy")
	}
}

func (p *parser) rule(link string, rule word, text string) {
	prefix, err := parsePrefix(text)
	if err != nil {
		p.fail(rule, "rule "+text, "not an IPv6 prefix or address")
	} else if err = ndproxy.Answerable(prefix); err != nil {
		p.fail(rule, "rule "+text, err.Error())
	}
	static, other := false, false
	p.block(rule, text, func(w word) {
		switch value := p.value(); {
		case w.text == "static":
			static = true
		case w.text == "auto" || w.text == "iface":
			other = true
			p.fail(w, w.text+" "+value, "v6net does not ask on another interface whether "+text+
				" is there; name its addresses with --addresses or, where all of it is behind this host, write static")
		case w.text == "autovia" && (value == "no" || value == "false"):
		case w.text == "autovia":
			p.fail(w, w.text+" "+value, "v6net adds no routes; remove it")
		default:
			p.fail(w, w.text+" "+value, "unknown setting of a rule; allowed is static")
		}
	})
	if !static && !other {
		p.fail(rule, "rule "+text, "a rule must say static")
	}
	if static && err == nil {
		p.rules = append(p.rules, Rule{link, prefix})
	}
}

func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		s += "/128"
	}
	prefix, err := netip.ParsePrefix(s)
	if err == nil && !prefix.Addr().Is6() {
		err = errors.New("IPv4")
	}
	return prefix.Masked(), err
}
