"""From stored predictions to tables; published figures stand beside them."""
