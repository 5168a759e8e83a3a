package engine

import "context"

func (e *Engine) adoptAll(ctx context.Context) error { return nil }
