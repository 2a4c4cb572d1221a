{# A key has one current version, or none once it is gone #}
{% test one_current_version(model, key) %}
select {{ key | join(', ') }}, count(*) as current_versions
from {{ model }}
where is_current
group by {{ key | join(', ') }}
having count(*) > 1
{% endtest %}
