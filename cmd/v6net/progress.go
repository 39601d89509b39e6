package main

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// progressPatience is how long a command works without a word.
const progressPatience = 2 * time.Second

// progress says what is waited for, whenever nothing was said for two seconds.
type progress struct {
	say func(text string)

	mu      sync.Mutex
	waiting []string
	timer   *time.Timer
}

func newProgress(say func(string)) *progress {
	p := &progress{say: say}
	p.timer = time.AfterFunc(progressPatience, p.tell)
	return p
}

// end ends the saying.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	p.timer = nil
}

// on is told of what is waited for from now on, until done is called.
func (p *progress) on(what string) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, what)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(p.waiting, what); i >= 0 {
			p.waiting = slices.Delete(p.waiting, i, i+1)
		}
	}
}

func (p *progress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		return
	}
	if len(p.waiting) > 0 {
		p.say("waiting for " + strings.Join(p.waiting, ", "))
	}
	p.timer.Reset(progressPatience)
}
