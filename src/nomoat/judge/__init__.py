"""Did it help? Checks of answers, paired statistics, before and after, the forgetting guard, the receipt."""
