package engine

import "time"

// patience is for how long something may take without a word, and longest the longest
// between two words about it.
const (
	patience = 2 * time.Second
	longest  = time.Minute
)

// whileWaiting logs that something takes its time, after two seconds, four, and so on,
// until end is called.
func (e *Engine) whileWaiting(what string, about ...any) (end func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(ended)
		for wait := patience; ; wait = min(2*wait, longest) {
			select {
			case <-over:
				return
			case <-time.After(wait):
				e.Log.Info(what, append(about[:len(about):len(about)], "waited", time.Since(began).Round(time.Second))...)
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}
