package ndbpf

import (
	"context"
	"errors"
)

// Spare is what a link needs of programs and tables, loaded ahead of need: that takes longer
// than all else which a daemon that is started again does before its first answer, and needs
// nothing of it. It is of one link. nil: nothing is ahead.
type Spare struct {
	objects chan programObjects // holds one, until a link has taken it
	loaded  chan error          // holds one; closed when it has been told
}

// LoadAhead begins to load, beside all else. Close releases what no link has taken; one that
// comes later loads what it needs.
func LoadAhead() *Spare {
	s := &Spare{make(chan programObjects, 1), make(chan error, 1)}
	go func() {
		defer close(s.loaded)
		defer close(s.objects)
		var objects programObjects
		if err := load(&objects); err != nil {
			s.loaded <- err
			return
		}
		s.objects <- objects
	}()
	return s
}

// Dial is [Dial], with what is ahead for the first one that is loaded.
func (s *Spare) Dial(ctx context.Context, link string) (*Conn, error) {
	return dial(ctx, link, attach, s.take)
}

// take loads what is not ahead.
func (s *Spare) take(objects *programObjects) error {
	if s != nil {
		if ahead, ok := <-s.objects; ok {
			*objects = ahead
			return nil
		}
		if err, failed := <-s.loaded; failed {
			return err
		}
	}
	return load(objects)
}

// Close waits for the loading.
func (s *Spare) Close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for objects := range s.objects {
		errs = append(errs, objects.Close())
	}
	return errors.Join(errs...)
}
