"""What model servers say of themselves: their metrics and models, as events for the picker."""
