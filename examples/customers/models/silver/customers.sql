select import_date, customer_id, name, trim(email) as email, signup_date, last_purchase, total_spent
from ({{ documents() }})
